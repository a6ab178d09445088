"""Choose the micro-batch, the clips of a forward pass in each process, by the memory of the device."""

import logging
import math

from mobilevideogpt.training.memory import Step, predicted_bytes

logger = logging.getLogger(__name__)

USABLE = 0.9  # share of the free memory that a prediction may fill


def micro_batches(step: Step) -> list[int]:
    """Return the possible micro-batches, from the largest to one."""
    share = step.settings.effective_batch_size // step.launch.processes
    return [clips for clips in range(share, 0, -1) if share % clips == 0]


def choose_micro_batch(step: Step, free_bytes: int, *, largest: int | None = None, previous: int | None = None) -> Step:
    """Choose the largest micro-batch that is predicted to fit, at the same effective batch size.

    Args:
        step: With ``auto`` for ``batch_size``.
        free_bytes: Free memory for each process.
        largest: The micro-batch that fitted in a rehearsal on this device.
        previous: That of the interrupted run. It is kept if it fits, so that dropout draws the same numbers.

    Returns:
        The step with numbers. If not even one clip is predicted to fit, with gradient checkpointing.
    """
    sizes = [clips for clips in micro_batches(step) if clips <= (largest or math.inf)]
    sizes = ([previous] if previous in sizes else []) + sizes
    candidates = [step.with_micro_batch(clips) for clips in sizes]
    candidates.append(candidates[-1].with_settings(gradient_checkpointing=True))
    fitting = (candidate for candidate in candidates if predicted_bytes(candidate) <= USABLE * free_bytes)
    chosen = next(fitting, candidates[-1])
    logger.info(
        "finetune.batch_size: auto: micro-batch %d in each of %d processes, %d accumulation steps; %.1f GB are free",
        *(chosen.micro_batch, step.launch.processes, chosen.settings.gradient_accumulation_steps, free_bytes / 1e9),
    )
    return chosen


def with_less_memory(step: Step) -> Step | None:
    """Return a step of the same result with a smaller micro-batch, else with gradient checkpointing, else None."""
    smaller = [clips for clips in micro_batches(step) if clips < step.micro_batch]
    if smaller:
        return step.with_micro_batch(smaller[0])
    return None if step.settings.gradient_checkpointing else step.with_settings(gradient_checkpointing=True)
