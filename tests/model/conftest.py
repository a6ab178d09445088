import pytest
import torch
from transformers import set_seed

from mobilevideogpt import MobileVideoGPTConfig, MobileVideoGPTForConditionalGeneration

VIDEO_TOKEN = 63


@pytest.fixture(scope="session")
def tiny_config() -> MobileVideoGPTConfig:
    return MobileVideoGPTConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=62,
        pad_token_id=0,
        video_hidden_size=24,
        video_num_layers=2,
        image_hidden_size=64,
        image_intermediate_size=48,
        image_num_layers=2,
        image_num_heads=1,
        video_token_id=VIDEO_TOKEN,
    )


@pytest.fixture
def tiny(tiny_config) -> MobileVideoGPTForConditionalGeneration:
    """A small model whose answers depend on what it is shown."""
    set_seed(0)
    model = MobileVideoGPTForConditionalGeneration(tiny_config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj" in name and "vision_tower" not in name:
                parameter.mul_(10)
    return model


@pytest.fixture
def batch(tiny_config):
    """Two videos with questions of unequal length, padded on the left; no labels."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.tensor([1, 2]), torch.tensor([1, 2, 3, 4, 5])]
    video = torch.full((tiny_config.num_visual_tokens,), VIDEO_TOKEN)
    rows = [torch.cat([torch.tensor([7]), video, row]) for row in rows]
    longest = max(map(len, rows))
    pad = [longest - len(row) for row in rows]
    return {
        "input_ids": torch.stack([torch.nn.functional.pad(r, (p, 0)) for r, p in zip(rows, pad, strict=True)]),
        "attention_mask": torch.stack([(torch.arange(longest) >= p).long() for p in pad]),
        "video_features": torch.randn(2, 2, 196, tiny_config.video_hidden_size, generator=generator),
        "context_features": torch.randn(2, 16, 196, tiny_config.image_hidden_size, generator=generator),
    }
