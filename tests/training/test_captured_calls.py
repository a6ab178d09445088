"""Which passes go to captured graphs and to the fused decoder, on any device; `test_cuda_graphs` has the graphs."""

import pytest
import torch

from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.kernels import fused
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training import cuda_graphs
from tests.tiny import random_features, tiny_config

CALLS: list[str] = []


class Recorded:
    """Runs the function in place of its graphs, and counts the calls."""

    def __init__(self, run, *trained, warm_up=None, largest=()):
        self.run = run

    def __call__(self, *inputs):
        CALLS.append("replayed")
        return self.run(*inputs)


@pytest.fixture
def model(monkeypatch):
    CALLS.clear()
    torch.manual_seed(0)
    model = add_lora(MobileVideoGPTForConditionalGeneration(tiny_config()), r=4, lora_alpha=8, lora_dropout=0.0).train()
    decode = fused.FusedDecoder.__call__
    monkeypatch.setattr(fused.FusedDecoder, "__call__", lambda self, x: CALLS.append("fused") or decode(self, x))
    monkeypatch.setattr(cuda_graphs, "Graphed", Recorded)
    fused.fuse(model)
    cuda_graphs.capture_passes(model)
    return model


def test_a_training_step_is_replayed_and_fused_and_a_validation_is_neither(model):
    config = model.get_base_model().config
    ids = torch.full((1, config.num_visual_tokens + 6), config.video_token_id)
    ids[:, -6:] = torch.arange(6)
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    features = {name: tensor[None] for name, tensor in random_features(config).items()}
    batch = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids), **features}
    step = model(**batch)
    assert CALLS == ["replayed", "replayed", "fused"] and step.logits.shape[1] == 2
    step.loss.backward()
    with torch.no_grad():
        validated = model.eval()(**batch)
    assert len(CALLS) == 3 and validated.logits.shape[1] == 2
    torch.testing.assert_close(validated.loss, step.loss)
