"""What the settings of a training leave to the machine's memory: the micro-batch and the ZeRO stage."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.machine import device_name, free_bytes_for_each, smallest_gpu_bytes
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.checkpoints import numbered_checkpoints, read_fingerprint
from mobilevideogpt.training.memory import Step, longest_text
from mobilevideogpt.training.micro_batch import choose_micro_batch
from mobilevideogpt.training.plan import plan_launch
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.sharing import choose_stage


def resolve_by_memory(
    settings: TrainingSettings,
    *,
    model: ModelPaths,
    train: list[dict],
    preflight: Mapping,
    run_folder: str | Path,
    digest: str,
) -> TrainingSettings:
    """Resolve ``finetune.batch_size: auto`` and ``finetune.deepspeed: auto`` for a training on this machine.

    Args:
        settings: With ``auto``, or with numbers, which stay.
        model: Paths of base and encoders.
        train: Samples to learn from.
        preflight: Content of preflight.json, or nothing. A rehearsal on this device limits the micro-batch.
        run_folder: Folder of the run; an interrupted one keeps its micro-batch if that fits.
        digest: Of all that affects the result.

    Returns:
        Settings with a number for ``batch_size`` and, where processes train together, a stage or ``none`` for
        ``deepspeed``.

    Raises:
        InputError: If ``batch_size`` is ``auto``, but the processes of the training were started already.
    """
    automatic, launch = settings.batch_size == "auto", plan_launch(settings)
    if "RANK" in os.environ:
        if automatic:
            raise InputError("finetune.batch_size: auto, but the processes were started already; set it to a number")
        return settings
    if not automatic and (settings.deepspeed != "auto" or launch.processes == 1):
        return settings
    rehearsed = preflight.get("batch") if preflight.get("device") == device_name() else None
    if automatic and rehearsed and rehearsed["gradient_checkpointing"]:
        settings = replace(settings, gradient_checkpointing=True)
    processor = MobileVideoGPTProcessor.from_pretrained(model.base)
    _, text = longest_text(train, processor, settings.max_text_tokens)
    step = Step(settings, launch, model.base, text, torch.cuda.is_available())
    step = choose_stage(step, smallest_gpu_bytes(launch.on_each_node))
    if automatic:
        step = choose_micro_batch(
            step,
            free_bytes_for_each(launch.on_each_node),
            largest=rehearsed["micro"] if rehearsed else None,
            previous=_previous_micro_batch(run_folder, digest),
        )
    return replace(step.settings, deepspeed=step.launch.deepspeed or "none") if launch.processes > 1 else step.settings


def _previous_micro_batch(run_folder: str | Path, digest: str) -> int | None:
    """Return the micro-batch of the newest complete checkpoint of ``digest``, or None."""
    for checkpoint in reversed(numbered_checkpoints(Path(run_folder))):
        if (found := read_fingerprint(checkpoint)) and found.digest == digest:
            shape = {"train_batch_size": int}
            state = read_json(checkpoint / "trainer_state.json", f"delete {checkpoint}/", shape=shape)
            return state["train_batch_size"]
    return None
