"""Which batch fits the device at hand, and which settings would make a step fit that does not."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.machine import device_name
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.checkpoints import numbered_checkpoints, read_fingerprint
from mobilevideogpt.training.memory import TextTokens, predicted_bytes
from mobilevideogpt.training.plan import Launch, plan_launch
from mobilevideogpt.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

ROOM = 0.9  # of the free memory may be predicted to be taken


def free_bytes(processes: int) -> int:
    """Return the memory that is free for each process: of the fullest GPU, or without one its share of main memory.

    Asks the driver, so that this process takes none itself.
    """
    if not torch.cuda.is_available():
        return psutil.virtual_memory().available // processes
    gpus = range(min(processes, torch.cuda.device_count()))
    return min(torch.cuda.get_device_properties(n).total_memory - torch.cuda.device_memory_used(n) for n in gpus)


def longest_text(records: list[dict], processor, max_text_tokens: int) -> tuple[dict, TextTokens]:
    """Return the record with the most text, and the tokens of it that training sees."""

    def tokens(record: dict) -> TextTokens:
        encoded = processor.encode_text(*prompt_and_response(record))
        answer = sum(label != IGNORED for label in encoded["labels"])
        return TextTokens(len(encoded["input_ids"]) - processor.num_visual_tokens - answer, answer)

    longest = max(records, key=lambda record: sum(tokens(record)))
    prompt, answer = tokens(longest)
    return longest, TextTokens(prompt, max(0, min(answer, max_text_tokens - prompt)))


def micro_batches(settings: TrainingSettings, processes: int) -> list[int]:
    """Return the numbers of clips that a process can take at a time, from the most to one."""
    share = settings.effective_batch_size // processes
    return [n for n in range(share, 0, -1) if share % n == 0]


def fit_batch(
    settings: TrainingSettings,
    launch: Launch,
    base: str | Path,
    text: TextTokens,
    most: int | None = None,
    before: int | None = None,
) -> TrainingSettings:
    """Put numbers where ``finetune.batch_size`` is ``auto``: as many clips at a time as are predicted to fit.

    Args:
        text: Of the longest sample.
        most: Clips at a time that a rehearsal on this device found to fit.
        before: Clips at a time of the run that goes on; kept if they fit, so that dropout draws what it would have.

    Returns:
        Settings that learn from as many clips a step. Where not even one at a time is predicted to fit, activations are
        recomputed.
    """
    there = free_bytes(launch.processes)
    sizes = [n for n in micro_batches(settings, launch.processes) if n <= (most or math.inf)]
    sizes = [before] * (before in sizes) + sizes
    candidates = [settings.with_micro_batch(n, launch.processes) for n in sizes]
    candidates.append(replace(candidates[-1], gradient_checkpointing=True))
    fitting = (c for c in candidates if _predicted(c, launch, base, text) <= ROOM * there)
    settings = next(fitting, candidates[-1])
    logger.info(
        "finetune.batch_size: auto: %d clips at a time in each of %d processes, %d times a step; %.1f GB are free",
        *(settings.batch_size // launch.processes, launch.processes, settings.gradient_accumulation_steps, there / 1e9),
    )
    return settings


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
    return fit_batch(
        settings,
        plan_launch(settings),
        model.base,
        text,
        most=rehearsed["micro"] if rehearsed else None,
        before=micro_batch_before(run_folder, digest),
    )


def with_less_memory(settings: TrainingSettings, processes: int) -> TrainingSettings | None:
    """Return settings that learn the same in smaller parts, then with recomputed activations; None after that."""
    smaller = [n for n in micro_batches(settings, processes) if n * processes < settings.batch_size]
    if smaller:
        return settings.with_micro_batch(smaller[0], processes)
    return None if settings.gradient_checkpointing else replace(settings, gradient_checkpointing=True)


def micro_batch_before(run_folder: str | Path, digest: str) -> int | None:
    """Return the clips at a time of the newest whole checkpoint of ``digest``, or None."""
    for checkpoint in reversed(numbered_checkpoints(Path(run_folder))):
        if (found := read_fingerprint(checkpoint)) and found.digest == digest:
            return read_json(checkpoint / "trainer_state.json")["train_batch_size"]
    return None


def what_would_fit(
    settings: TrainingSettings, launch: Launch, base: str | Path, text: TextTokens, there: int, scale: float = 1.0
) -> str:
    """Name changes with which a step is predicted to fit, and what they cost; the cheapest first.

    Args:
        there: Bytes that are free.
        scale: Measured by predicted memory of the settings as they are.
    """
    smaller = [{}]  # batches, from the one that there is
    for n in micro_batches(settings, launch.processes):
        if n < settings.batch_size // launch.processes:
            other = settings.with_micro_batch(n, launch.processes)
            smaller.append({name: getattr(other, name) for name in ("batch_size", "gradient_accumulation_steps")})
    changes = [("the same result, somewhat slower", batch) for batch in smaller[1:]]
    if not settings.gradient_checkpointing:
        recomputed = {"gradient_checkpointing": True}
        slower = "the same result, slower: activations are computed twice, and no passes recorded"
        changes += [(slower, batch | recomputed) for batch in smaller]
    least = changes[-1][1] if changes else {}
    if settings.precision == "fp32":
        changes.append(("coarser arithmetic, but faster", least | {"precision": "bf16"}))
    if settings.method == "full":
        if launch.deepspeed and launch.processes == 1:
            changes.insert(0, ("the same result", {"deepspeed": "none"}))
        slowly, offloaded = "the same result, slowly: most stays in main memory", {"deepspeed": "zero3_offload"}
        if settings.precision != "fp16":  # which DeepSpeed would train in
            changes += [(slowly, batch | offloaded) for batch in ([{}, least] if least else [{}])]
        changes.append(("learns with fewer weights", {"method": "lora"}))
    else:
        changes.append(("learns with fewer weights", least | {"lora_r": max(1, settings.lora_r // 4)}))
        if settings.quantization == "none" and "zero3" not in (launch.deepspeed or ""):
            rounded = "frozen weights rounded to 4 bits; takes bitsandbytes: pip install '.[nf4]'"
            changes.append((rounded, least | {"quantization": "nf4"}))
    fitting = []
    for cost, change in changes:
        other = change.get("deepspeed", launch.deepspeed)
        started = replace(launch, deepspeed=None if other == "none" else other)
        predicted = scale * _predicted(replace(settings, **change), started, base, text)
        if predicted <= there:
            values = ", ".join(f"{name}: {str(value).lower()}" for name, value in change.items())
            fitting.append(f"set finetune={{{values}}} ({predicted / 1e9:.1f} GB; {cost})")
    return "; or ".join([*fitting[:3], "close what else uses the device's memory"])


def _predicted(settings: TrainingSettings, launch: Launch, base: str | Path, text: TextTokens) -> int:
    on_gpu = torch.cuda.is_available()
    return predicted_bytes(settings, base, text, launch.processes, launch.deepspeed, on_gpu)
