"""Captured CUDA graphs: the same losses and gradients as without, over several shapes and steps."""

import pytest
import torch

from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.kernels.fused import fuse
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.cuda_graphs import MAX_SHAPES, capture_passes
from mobilevideogpt.training.model_setup import autocast
from tests.tiny import tiny_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SIZES = {"hidden_size": 64, "intermediate_size": 96, "video_hidden_size": 32, "image_hidden_size": 64}
IDS = {"vocab_size": 256, "bos_token_id": 1, "eos_token_id": 2, "video_token_id": 3}


@pytest.fixture
def model():
    return fused_model(lora_dropout=0.0)


def fused_model(lora_dropout):
    torch.manual_seed(0)
    model = MobileVideoGPTForConditionalGeneration(tiny_config(**SIZES, **IDS)).to(torch.bfloat16)
    model.model.vision_tower = model.model.image_vision_tower = None
    model = add_lora(model, r=8, lora_alpha=16, lora_dropout=lora_dropout).cuda().train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    autocast(model, "cuda")
    fuse(model)
    return model


def batch(config, clips, text):
    length = config.num_visual_tokens + text
    ids = torch.randint(4, 256, (clips, length), device="cuda")
    ids[:, 5 : 5 + config.num_visual_tokens] = config.video_token_id
    labels = torch.full_like(ids, -100)
    labels[:, -7:] = ids[:, -7:]
    return {
        "input_ids": ids,
        "labels": labels,
        "video_features": torch.randn(clips, 2, 196, config.video_hidden_size, device="cuda").half(),
        "context_features": torch.randn(clips, config.num_frames, 196, config.image_hidden_size, device="cuda").half(),
    }


def losses_and_gradients(model, batches):
    model.zero_grad()
    losses = []
    for one in batches:
        loss = model(**one).loss
        loss.backward()
        losses.append(loss.item())
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_replayed_passes_give_the_losses_and_summed_gradients_of_eager_ones(model):
    shapes = [(1, 30), (2, 30), (1, 30), (1, 41)] + [(1, 50 + n) for n in range(MAX_SHAPES)]  # more than are captured
    batches = [batch(model.config, *shape) for shape in shapes]
    eager = losses_and_gradients(model, batches)
    capture_passes(model, largest=(2, model.config.num_visual_tokens + 64))
    for _ in range(2):  # captured, replayed
        losses, gradients = losses_and_gradients(model, batches)
        assert losses == pytest.approx(eager[0], rel=1e-3)
        for name, gradient in gradients.items():
            assert (gradient - eager[1][name]).norm() <= 2e-2 * eager[1][name].norm(), name


def test_replayed_passes_see_what_an_optimizer_changed(model):
    one = batch(model.config, 2, 30)
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def losses():
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in start:
                    parameter.copy_(start[name])
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
        seen = []
        for _ in range(8):
            loss = model(**one).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.item())
        return seen

    eager = losses()
    capture_passes(model)
    assert losses() == pytest.approx(eager, rel=1e-2)
    assert eager[-1] < eager[0] - 0.1


def test_dropout_draws_again_in_each_replay_and_equally_from_a_state():
    model = fused_model(lora_dropout=0.5)
    one = batch(model.config, 1, 30)
    capture_passes(model)
    state = torch.cuda.get_rng_state()
    first, second = (losses_and_gradients(model, [one])[0] for _ in range(2))
    torch.cuda.set_rng_state(state)
    again = losses_and_gradients(model, [one])[0]
    assert first != second
    assert first == again
