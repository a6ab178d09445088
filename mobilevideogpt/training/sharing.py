"""Choose whether the processes share gradients, optimizer and weights by ZeRO, by the memory of the devices."""

import logging
from collections.abc import Iterator
from dataclasses import replace

from mobilevideogpt.training.memory import Step, predicted_bytes
from mobilevideogpt.training.micro_batch import USABLE, micro_batches
from mobilevideogpt.training.plan import deepspeed_obstacle

logger = logging.getLogger(__name__)

STAGES = (None, "zero2", "zero3")  # each exchanges more than the one before, and needs less memory


def choose_stage(step: Step, device_bytes: int | None) -> Step:
    """Choose the first of `STAGES` with which a step is predicted to fit, where ``deepspeed`` is ``auto``.

    All of a device's memory counts, not what is free, so that an interrupted run is resumed under the same stage.

    LoRA never gets ZeRO-3. Without the fused kernels that it excludes, a step needs more memory than under ZeRO-2, and
    it gathers frozen weights for each layer, which makes it ten times as slow.

    Args:
        step: With ``auto`` or a number for ``batch_size``.
        device_bytes: Memory of the smallest GPU that takes part; None without one.

    Returns:
        The step under that stage. If it fits under none, under the one that needs least memory.
    """
    if step.settings.deepspeed != "auto" or step.launch.processes == 1 or device_bytes is None:
        return step
    candidates = list(_candidates(step))
    usable = USABLE * device_bytes
    if predicted_bytes(candidates[0]) <= usable:
        return replace(step, launch=candidates[0].launch)
    if obstacle := deepspeed_obstacle(step.settings):
        logger.warning("training without DeepSpeed: %s", obstacle)
        return step
    fitting = (candidate for candidate in candidates if predicted_bytes(candidate) <= usable)
    chosen = next(fitting, None) or min(candidates, key=predicted_bytes)
    logger.info("finetune.deepspeed: auto: %s", chosen.launch.deepspeed or "none")
    return replace(step, launch=chosen.launch)


def _candidates(step: Step) -> Iterator[Step]:
    """Yield the step with as few clips as the settings allow, under each stage, then with gradient checkpointing."""
    automatic = step.settings.batch_size == "auto"
    least = step.with_micro_batch(micro_batches(step)[-1]) if automatic else step
    for checkpointing in [False, True] if automatic else [step.settings.gradient_checkpointing]:
        changed = least.with_settings(gradient_checkpointing=checkpointing)
        for stage in STAGES if step.settings.method == "full" else STAGES[:-1]:
            yield replace(changed, launch=replace(step.launch, deepspeed=stage))
