"""AdamW's parameter groups and their learning rates."""

import pytest
import torch
from torch import nn

from mobilevideogpt.training.optimizer import parameter_groups, scheduled_learning_rates


def test_parameter_groups_are_never_empty_and_biases_do_not_decay():
    model = nn.ModuleDict({"lora_A": nn.Linear(3, 3, bias=False), "mm_projector": nn.Sequential(nn.Linear(3, 3))})
    rates = {"lora": 1e-3, "projectors": 1e-4}
    groups = parameter_groups(model, rates, weight_decay=0.0)
    assert [(group["kind"], group["lr"], len(group["params"])) for group in groups] == [
        ("lora", 1e-3, 1),
        ("projectors", 1e-4, 2),
    ]
    groups = parameter_groups(model, rates, weight_decay=0.1)
    assert [(group["kind"], group["weight_decay"], len(group["params"])) for group in groups] == [
        ("lora", 0.1, 1),
        ("projectors", 0.1, 1),
        ("projectors", 0.0, 1),
    ]


def test_parameters_that_training_would_round_away_or_does_not_know_are_refused():
    half = nn.ModuleDict({"lora_A": nn.Linear(3, 3).to(torch.bfloat16)})
    with pytest.raises(ValueError, match="rounded away"):
        parameter_groups(half, {"lora": 1, "projectors": 1}, 0)
    with pytest.raises(ValueError, match="neither LoRA's nor a projector's"):
        parameter_groups(nn.ModuleDict({"head": nn.Linear(3, 3)}), {"lora": 1, "projectors": 1}, 0)


def test_learning_rates_are_those_of_the_step_and_groups_off_the_schedule_are_refused():
    peaks = {"lora": 1e-3, "projectors": 1e-4}
    groups = [{"kind": kind, "initial_lr": peak, "lr": peak * 0.4} for kind, peak in peaks.items()]  # of the next step
    assert scheduled_learning_rates(groups, peaks, first_group=5e-4) == pytest.approx(
        {"learning_rate_lora": 5e-4, "learning_rate_projectors": 5e-5}
    )
    with pytest.raises(RuntimeError, match=r"peak learning rate is 0\.0001, not 0\.0002"):
        scheduled_learning_rates(groups, peaks | {"projectors": 2e-4}, 5e-4)
    groups[1]["lr"] *= 2
    with pytest.raises(RuntimeError, match="different points of the schedule"):
        scheduled_learning_rates(groups, peaks, 5e-4)
