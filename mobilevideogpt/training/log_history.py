"""Numbers from the Trainer's log, a list of one dictionary for each step and each validation."""

from math import nan
from statistics import fmean


def best_step(log_history: list[dict]) -> int | None:
    """Return the step of the lowest validation loss, the first of equal ones; None without one after step 0."""
    losses = [(entry["eval_loss"], entry["step"]) for entry in log_history if "eval_loss" in entry and entry["step"]]
    return min(losses)[1] if losses else None


def losses(log_history: list[dict]) -> dict[str, float | None]:
    """Return the first and last training and validation losses, and the lowest validation loss."""
    train = [entry["loss"] for entry in log_history if "loss" in entry] or [None]
    val = [entry["eval_loss"] for entry in log_history if "eval_loss" in entry]
    return {
        "train_first": train[0],
        "train_last": train[-1],
        "val_first": val[0] if val else None,
        "val_last": val[-1] if val else None,
        "val_best": min(val) if val else None,
    }


def mean_training_loss(log_history: list[dict]) -> float:
    """Return the mean training loss of all steps, those before a resumption among them; NaN without a step."""
    train = [entry["loss"] for entry in log_history if "loss" in entry]
    return fmean(train) if train else nan


def learning_rates(log_history: list[dict], peaks: dict[str, float]) -> dict[str, dict[str, float | None]]:
    """Return each kind's learning rate in step 1 (0 under a warm-up) and at its peak."""
    step_1 = next((entry for entry in log_history if "loss" in entry), {})
    return {kind: {"step_1": step_1.get(f"learning_rate_{kind}"), "peak": peak} for kind, peak in peaks.items()}
