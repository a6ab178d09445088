import pytest
import torch
from transformers import set_seed

from mobilevideogpt import MobileVideoGPTConfig, MobileVideoGPTForConditionalGeneration
from tests.tiny import random_features, tiny_config


@pytest.fixture(scope="session")
def config() -> MobileVideoGPTConfig:
    """Several layers and heads everywhere but in CLIP, whose heads are 64 wide in every published model."""
    decoder = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    clip = {"image_hidden_size": 64, "image_intermediate_size": 48, "image_num_heads": 1}
    return tiny_config(**decoder, **clip, video_hidden_size=24, video_num_layers=2)


@pytest.fixture
def tiny(config) -> MobileVideoGPTForConditionalGeneration:
    """A tiny model whose answers depend on the video."""
    set_seed(0)
    model = MobileVideoGPTForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj" in name and "vision_tower" not in name:
                parameter.mul_(10)
    return model


@pytest.fixture
def batch(config):
    """Two videos with questions of unequal length, padded on the left; no labels."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.tensor([1, 2]), torch.tensor([1, 2, 3, 4, 5])]
    video = torch.full((config.num_visual_tokens,), config.video_token_id)
    rows = [torch.cat([torch.tensor([7]), video, row]) for row in rows]
    longest = max(map(len, rows))
    pad = [longest - len(row) for row in rows]
    features = [random_features(config, generator) for _ in rows]
    return {
        "input_ids": torch.stack([torch.nn.functional.pad(r, (p, 0)) for r, p in zip(rows, pad, strict=True)]),
        "attention_mask": torch.stack([(torch.arange(longest) >= p).long() for p in pad]),
        **{name: torch.stack([clip[name] for clip in features]) for name in features[0]},
    }


@pytest.fixture
def labelled(batch):
    """`batch` with labels at other places of each row, three in all."""
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -2:] = batch["input_ids"][:, -2:]
    labels[1, -4] = 9
    return batch | {"labels": labels}
