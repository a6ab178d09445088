"""Conditions that end a training."""

import errno
import shutil
from types import SimpleNamespace

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.checkpoints import Fingerprint
from mobilevideogpt.training.guards import (
    check_that_all_moved,
    explain_full_disk,
    exploding_since,
    out_of_patience,
    overflowing,
    unmoved,
)


def log_of(*losses, key="loss"):
    return [{"step": n, key: loss} for n, loss in enumerate(losses, 1)]


def test_a_loss_that_stays_high_explodes_and_a_single_hard_batch_does_not():
    falling = [4 * 0.95**n for n in range(100)]
    assert exploding_since(log_of(*falling), 3) is None
    assert exploding_since(log_of(*falling, 9, 9), 3) is None
    assert exploding_since(log_of(*falling, 9, 1, 9), 3) is None
    assert exploding_since(log_of(*falling, 9, 8, 7), 3) == 101
    assert exploding_since(log_of(*falling, 9, 8, 7), None) is None
    assert exploding_since(log_of(3, 3, 3, 3, 3, 10, 11, 11), 3) == 6


def test_a_model_that_knows_few_clips_by_heart_may_stumble():
    assert exploding_since(log_of(*[4] * 10, *[0.01] * 50, 0.5, 1, 2), 3) is None, "still below where it began"


def test_non_finite_gradients_are_found_and_fp16_may_search_its_scale():
    norms = log_of(1, float("nan"), key="grad_norm")
    assert overflowing(norms, 1) and not overflowing(norms, 2) and not overflowing(log_of(1, 2, key="grad_norm"), 1)
    assert overflowing(log_of(1, *[float("inf")] * 20, key="grad_norm"), 20)


def test_patience_ends_after_as_many_validations_without_a_new_minimum():
    assert not out_of_patience(log_of(3, 2, 2.5, key="eval_loss"), 2)
    assert out_of_patience(log_of(3, 2, 2.5, 2, key="eval_loss"), 2)
    assert not out_of_patience(log_of(3, 4, 5, key="eval_loss"), None)


def test_a_saved_parameter_that_did_not_move_is_named():
    before = {"moved": torch.zeros(2), "stuck": torch.ones(2), "missing": torch.ones(2)}
    assert unmoved(before, {"moved": torch.ones(2), "stuck": torch.ones(2)}) == ["stuck", "missing"]


def test_unmoved_parameters_are_an_error_once_enough_steps_had_a_learning_rate():
    same = {"stuck": torch.ones(2)}
    rates = [{"learning_rate": rate} for rate in (0.0, 1e-4, 1e-4)]
    check_that_all_moved(same, same, rates)
    with pytest.raises(InputError, match=r"1 trainable parameters did not move in training: stuck; raise finetune"):
        check_that_all_moved(same, same, [*rates, {"learning_rate": 1e-4}])


def test_a_full_disk_is_named_with_the_step_to_resume_from_and_other_errors_pass(tmp_path, monkeypatch):
    fingerprint = Fingerprint("one", 1, None)
    with pytest.raises(OSError, match="Input/output"), explain_full_disk(tmp_path, fingerprint):
        raise OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with (
        pytest.raises(InputError, match=r"the disk is full .* resumes from the beginning"),
        explain_full_disk(tmp_path, fingerprint),
    ):
        raise RuntimeError("PytorchStreamWriter failed writing file")
