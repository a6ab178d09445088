"""Choose the micro-batch, the clips of a forward pass in each process, by the memory of the device."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.machine import device_name, free_bytes_for_each
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.checkpoints import numbered_checkpoints, read_fingerprint
from mobilevideogpt.training.memory import Step, longest_text, predicted_bytes
from mobilevideogpt.training.plan import plan_launch
from mobilevideogpt.training.settings import TrainingSettings

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


def resolve_batch_size(
    settings: TrainingSettings,
    *,
    model: ModelPaths,
    train: list[dict],
    preflight: Mapping,
    run_folder: str | Path,
    digest: str,
) -> TrainingSettings:
    """Resolve ``finetune.batch_size: auto`` for a training on this machine.

    Args:
        settings: With ``auto``.
        model: Paths of base and encoders.
        train: Samples to learn from.
        preflight: Content of preflight.json, or nothing. A rehearsal on this device limits the result.
        run_folder: Folder of the run; an interrupted one keeps its micro-batch if that fits.
        digest: Of all that affects the result.

    Raises:
        InputError: If the processes of the training were started already.
    """
    if "RANK" in os.environ:
        raise InputError("finetune.batch_size: auto, but the processes were started already; set it to a number")
    rehearsed = preflight.get("batch") if preflight.get("device") == device_name() else None
    if rehearsed and rehearsed["gradient_checkpointing"]:
        settings = replace(settings, gradient_checkpointing=True)
    processor = MobileVideoGPTProcessor.from_pretrained(model.base)
    _, text = longest_text(train, processor, settings.max_text_tokens)
    step = Step(settings, plan_launch(settings), model.base, text, torch.cuda.is_available())
    chosen = choose_micro_batch(
        step,
        free_bytes_for_each(step.launch.processes),
        largest=rehearsed["micro"] if rehearsed else None,
        previous=_previous_micro_batch(run_folder, digest),
    )
    return chosen.settings


def _previous_micro_batch(run_folder: str | Path, digest: str) -> int | None:
    """Return the micro-batch of the newest complete checkpoint of ``digest``, or None."""
    for checkpoint in reversed(numbered_checkpoints(Path(run_folder))):
        if (found := read_fingerprint(checkpoint)) and found.digest == digest:
            return read_json(checkpoint / "trainer_state.json")["train_batch_size"]
    return None


def with_less_memory(step: Step) -> Step | None:
    """Return a step of the same result with a smaller micro-batch, else with gradient checkpointing, else None."""
    smaller = [clips for clips in micro_batches(step) if clips < step.micro_batch]
    if smaller:
        return step.with_micro_batch(smaller[0])
    return None if step.settings.gradient_checkpointing else step.with_settings(gradient_checkpointing=True)
