"""Does every weight matter as much as in the original code? One backward pass tells for all of them."""

import math

import pytest
import torch

from tests.parity import weights
from tests.parity.measure import ABOUT, expanded

# Largest and mean change of the supervised logits of sample A when one parameter is jittered by a tenth of its spread.
TABLE = ABOUT["sensitivity"]["params"]
# The same number for every key of a row, so softmax cancels it; what the table holds is rounding.
CANCELLED = [key for key in TABLE if key.endswith("k_proj.bias") and "vision_tower" in key]


@pytest.fixture(scope="module")
def predicted(measured) -> dict[str, float]:
    """By parameter, how far such a jitter moves the logits (root of the mean square), to first order.

    A normal r gives E|J^T r|^2 = |J|^2 for the logits' Jacobian J, and noise of variance s^2 moves them by s |J|.
    """
    model = measured.model
    text = expanded("A", model.config)
    places = torch.tensor(ABOUT["full"]["A"]["supervised_positions"])[:, 1] - 1
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        model.requires_grad_(True)
        logits = model(
            **{k: text[k] for k in ("input_ids", "attention_mask")},
            pixel_values_videos=weights.inputs("frames_a")[None],
            pixel_values_context=weights.inputs("context_a")[None],
            logits_to_keep=places[places >= 0],
        ).logits
        names, parameters = zip(*model.named_parameters(), strict=True)
        r = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad(logits, parameters, r, allow_unused=True)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return {
        name: 0.0 if g is None else 0.1 * p.std().item() * g.norm().item() / math.sqrt(logits.numel())
        for name, p, g in zip(names, parameters, gradients, strict=True)
    }


@pytest.mark.slow
def test_the_weights_without_effect_are_the_originals(predicted):
    assert predicted.keys() == TABLE.keys()
    assert {k for k, value in predicted.items() if value == 0} == {k for k, (most, _) in TABLE.items() if most == 0}
    assert all(predicted[key] < 1e-5 for key in CANCELLED)


def test_every_weight_moves_the_logits_as_far_as_in_the_original(predicted):
    off = {}
    for key, (most, mean) in TABLE.items():
        if most == 0 or key in CANCELLED:
            continue
        ratio = predicted[key] / (mean * math.sqrt(math.pi / 2))  # of normal changes
        # The class token moves few logits, and those much.
        if not (mean < predicted[key] < most if key.endswith(".cls_token") else 0.7 < ratio < 2.2):
            off[key] = ratio
    assert not off
