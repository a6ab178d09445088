"""Conditions that end a training: diverging losses, no further improvement, unmoved parameters, a full disk."""

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.checkpoints import Fingerprint, newest_checkpoint

# A loss explodes if it is high in EXPLODING consecutive steps, compared with the FEWEST to USUAL steps before them.
EXPLODING, USUAL, FEWEST = 3, 50, 5
# fp16's loss scale starts at 2**16. It is halved, and the step skipped, whenever a gradient overflows.
FP16_OVERFLOWS = 20
STEPS_TO_MOVE = 3  # LoRA's B starts at zero, so A gets its first gradient in the second step with a learning rate
FULL_BELOW = 64 * 2**20  # bytes; less than a checkpoint of the 0.5B model takes


def exploding_since(log_history: list[dict], ratio: float | None) -> int | None:
    """Return the step in which the training loss began to explode, or None.

    The loss explodes if in `EXPLODING` consecutive steps it is above ``ratio`` times the median of the steps before,
    and above where training began. The second condition spares a model that has memorised its clips.
    """
    backwards = ((entry["step"], entry["loss"]) for entry in reversed(log_history) if "loss" in entry)
    latest, usual = list(islice(backwards, EXPLODING)), [loss for _, loss in islice(backwards, USUAL)]
    if ratio is None or len(usual) < FEWEST:
        return None
    first = islice((entry["loss"] for entry in log_history if "loss" in entry), min(USUAL // FEWEST, len(usual)))
    limit = max(ratio * median(usual), median(first))
    return latest[-1][0] if all(loss > limit for _, loss in latest) else None


def overflowing(log_history: list[dict], steps: int) -> bool:
    """Whether the gradients of the last ``steps`` steps were all non-finite."""
    norms = (entry["grad_norm"] for entry in reversed(log_history) if "grad_norm" in entry)
    latest = list(islice(norms, steps))
    return len(latest) == steps and not any(map(math.isfinite, latest))


def out_of_patience(log_history: list[dict], patience: int | None) -> bool:
    """Whether none of the last ``patience`` validation losses is a new minimum; equal in a resumed run."""
    losses = [entry["eval_loss"] for entry in log_history if "eval_loss" in entry]
    if not patience or not losses:
        return False
    return len(losses) - 1 - losses.index(min(losses)) >= patience


def check_that_all_moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor], log_history: list[dict]) -> None:
    """Check that training changed every tensor that was trained.

    Args:
        before: The trained tensors at the start of training, by name.
        after: The saved ones.
        log_history: Of the training; one of fewer than `STEPS_TO_MOVE` steps is not checked.

    Raises:
        InputError: If one is missing or unchanged.
    """
    steps = sum(entry.get("learning_rate", 0) > 0 for entry in log_history)
    if steps >= STEPS_TO_MOVE and (stuck := unmoved(before, after)):
        raise InputError(
            f"{len(stuck)} trainable parameters did not move in training: {', '.join(stuck[:5])}; "
            "raise finetune.learning_rate or finetune.projector_learning_rate, if it is very small"
        )


def unmoved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that are missing from ``after`` or unchanged."""
    return [name for name, tensor in before.items() if name not in after or torch.equal(tensor.cpu(), after[name])]


@contextmanager
def explain_full_disk(run_folder: Path, fingerprint: Fingerprint) -> Iterator[None]:
    """Turn the many errors that a full disk causes into one message."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if shutil.disk_usage(run_folder).free >= FULL_BELOW:
            raise
        last = newest_checkpoint(run_folder, fingerprint)
        raise InputError(
            f"{run_folder}: the disk is full ({error}). Completed steps are kept. Free some space and run the same "
            f"command again; it resumes from {last.name if last else 'the beginning'}"
        ) from error
