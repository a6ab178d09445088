"""AdamW's parameter groups: one learning rate for each kind of trainable parameter."""

from collections.abc import Sequence

import torch
from torch import nn

from mobilevideogpt.model.adapter import PROJECTORS
from mobilevideogpt.training.settings import TrainingSettings

LANGUAGE_MODEL_PREFIXES = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
# Kinds of trainable parameters. Plain text, as a checkpoint of the optimizer contains them.
LORA, LANGUAGE_MODEL, PROJECTOR = "lora", "language_model", "projectors"


def kind_of(name: str) -> str:
    """Return the kind of the trainable parameter of this name."""
    if "lora_" in name:
        return LORA
    if not set(PROJECTORS).isdisjoint(name.split(".")):
        return PROJECTOR
    if name.startswith(LANGUAGE_MODEL_PREFIXES):  # never inside PEFT's model, where the language model is frozen
        return LANGUAGE_MODEL
    raise ValueError(f"{name} is trainable, but is neither LoRA's nor a projector's nor the language model's")


def peak_learning_rates(settings: TrainingSettings) -> dict[str, float]:
    """Return the peak learning rate of each kind that is trained."""
    language_model = LANGUAGE_MODEL if settings.method == "full" else LORA
    return {language_model: settings.learning_rate, PROJECTOR: settings.projector_learning_rate}


def parameter_groups(model: nn.Module, learning_rates: dict[str, float], weight_decay: float) -> list[dict]:
    """Group the trainable parameters for AdamW by kind and, with weight decay, by whether they decay.

    Biases and norms (one-dimensional) do not decay. No group is empty: DeepSpeed drops empty groups, which would shift
    the learning rates of the later ones (deepspeedai/DeepSpeedExamples#756).
    """
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dtype != torch.float32:
            raise ValueError(f"{name} is trained in {parameter.dtype}; small updates would be rounded away")
        kind = kind_of(name)
        decay = weight_decay if parameter.dim() > 1 else 0.0
        group = groups.setdefault(
            (kind, decay), {"params": [], "lr": learning_rates[kind], "weight_decay": decay, "kind": kind}
        )
        group["params"].append(parameter)
    return list(groups.values())


def scheduled_learning_rates(groups: Sequence[dict], peaks: dict[str, float], first_group: float) -> dict[str, float]:
    """Return each kind's learning rate in the last step, and check the optimizer's groups against the schedule.

    Args:
        groups: The optimizer's, after the scheduler's step.
        peaks: Peak learning rate of each kind.
        first_group: Learning rate of the first group in the last step, as the Trainer logs it.

    Raises:
        RuntimeError: If a group has another peak, or the groups are at different points of the schedule.
    """
    for group in groups:
        if group["initial_lr"] != peaks[group["kind"]]:
            raise RuntimeError(
                f"{group['kind']}: the peak learning rate is {group['initial_lr']}, not {peaks[group['kind']]}"
            )
    shares = {group["lr"] / group["initial_lr"] for group in groups}
    if max(shares) - min(shares) > 1e-9:
        raise RuntimeError(f"the parameter groups are at different points of the schedule: {sorted(shares)}")
    share = first_group / peaks[groups[0]["kind"]]  # of the peak, by warm-up and decay
    return {f"learning_rate_{group['kind']}": share * group["initial_lr"] for group in groups}
