"""Check whether the fine-tuning runs on this machine: device, libraries, disk, and memory by a rehearsal."""

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.checks import Check, all_ok
from mobilevideogpt.data.encoding import DTYPES
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.machine import (
    free_bytes_for_each,
    free_disk_bytes,
    machine_facts,
    nearest_folder,
    smallest_gpu_bytes,
)
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.tiny_base import WITHOUT_GPU
from mobilevideogpt.training.arguments import missing_reporter
from mobilevideogpt.training.memory import Step, longest_text, predicted_bytes, shortest_text, text_lengths
from mobilevideogpt.training.memory_remedies import what_would_fit
from mobilevideogpt.training.micro_batch import choose_micro_batch, with_less_memory
from mobilevideogpt.training.plan import Launch, plan_launch, resolve_precision
from mobilevideogpt.training.rehearsal import Measured, Outcome, Rehearsal, RehearsalCache, rehearse
from mobilevideogpt.training.rehearsal_process import RehearsalProcess
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.sharing import choose_stage
from mobilevideogpt.wording import counted

logger = logging.getLogger(__name__)

GB = 1e9
ADAPTERS = 3  # on the disk: the best, the last, and that of the run before
EXAMPLE_SAMPLE = {  # rehearsed where no samples are given
    "video": "a clip",
    "exercise": "squats",
    "conversations": [
        {"from": "human", "value": "<video>\nAnalyze this video and provide corrective feedback."},
        {"from": "gpt", "value": "squats - not deep enough, and the heels leave the floor; " * 6},
    ],
}


@dataclass(frozen=True)
class FeatureFiles:
    """The features that a run will write to the disk.

    Attributes:
        missing: How many are not there; None: those of all clips.
        dtype: Number format of the files.
        encode: Whether the training computes the features itself, so that none are written.
    """

    missing: int | None = None
    dtype: str = "float16"
    encode: bool = False


def preflight(
    settings: TrainingSettings,
    *,
    model: ModelPaths,
    run_folder: str | Path,
    allow_cpu: bool,
    min_free_disk_gb: float,
    train: list[dict] | None = None,
    clips: Mapping[str, int] | None = None,
    features: FeatureFiles = FeatureFiles(),
    deepspeed_configs: str | Path = "config",
    cache: RehearsalCache | None = None,
    ready: RehearsalProcess | None = None,
) -> dict:
    """Check the machine against the settings, and rehearse if all checks passed.

    Args:
        settings: Those of the fine-tuning.
        model: Paths of base and encoders.
        run_folder: The run's folder, on whose disk ``min_free_disk_gb`` must be free.
        allow_cpu: Whether the fine-tuning may run without a GPU.
        min_free_disk_gb: Gigabytes.
        train: Samples to learn from; the longest is rehearsed. None means `EXAMPLE_SAMPLE`.
        clips: Number of clips of each split.
        features: The features' files. If the training encodes, so does the rehearsal, but not the prediction.
        deepspeed_configs: Folder of zero2.json and so on.
        cache: Result of the last rehearsal, which is used again if nothing that affects it has changed.
        ready: A process to rehearse in.

    Returns:
        ``ok``, ``device``, ``precision``, ``batch`` (micro-batch and so on), ``predicted_bytes`` and
        ``rehearsed_bytes`` (of a device's memory, None if unknown), ``rehearsed_bytes_of_each`` process,
        ``free_disk`` in bytes, ``machine``, and
        ``checks`` of ``name``, ``ok``, ``detail`` and ``remedy``.
    """
    machine, free_disk = machine_facts(), free_disk_bytes(run_folder)
    gpu = machine["gpus"][0] if machine["gpus"] else None
    clips, resolved = clips or {}, resolve_precision(settings)
    launch, processes_check = _plan(resolved)
    checks = [
        *_device_checks(machine, gpu, allow_cpu),
        _precision_check(settings, resolved, bool(gpu)),
        *_library_checks(resolved),
        _data_check(train, clips),
        _disk_check(free_disk, min_free_disk_gb),
        processes_check,
    ]
    result = {"batch": None, "predicted_bytes": None, "rehearsed_bytes": None, "rehearsed_bytes_of_each": []}
    if launch and all_ok(checks):
        processor = MobileVideoGPTProcessor.from_pretrained(model.base)
        samples = train or [EXAMPLE_SAMPLE]
        lengths = text_lengths(samples, processor)
        longest, text = longest_text(samples, processor, resolved.max_text_tokens, lengths)
        shortest = shortest_text(samples, processor, lengths)
        step, free_bytes = Step(resolved, launch, model.base, text, bool(gpu)), free_bytes_for_each(launch.processes)
        step = choose_stage(step, smallest_gpu_bytes(launch.processes))

        options = {"encode": features.encode, "deepspeed_configs": deepspeed_configs, "ready": ready}

        def rehearse_or_reuse(step: Step) -> Rehearsal:
            folder = nearest_folder(run_folder)
            return _cached_or_rehearsed(cache, step, model, longest, shortest, folder, **options)

        step, rehearsal = _rehearse_until_it_fits(step, free_bytes, rehearse_or_reuse)
        checks.append(_memory_check(step, rehearsal, free_bytes))
        if measured := rehearsal.measured:
            checks.append(_disk_need_check(measured, resolved.save_total_limit, clips, features, free_disk))
        result = {
            "batch": _batch(step),
            "predicted_bytes": predicted_bytes(step),
            "rehearsed_bytes": measured.peak_bytes if measured else None,
            "rehearsed_bytes_of_each": measured.peak_bytes_of_each if measured else [],
        }
    for check in checks:
        logger.info("preflight, %s: %s", check.name, check.text)
    return {
        "ok": all_ok(checks),
        "device": gpu["name"] if gpu else "cpu",
        "precision": resolved.precision,
        **result,
        "free_disk": free_disk,
        "machine": machine,
        "checks": [check.to_json() for check in checks],
    }


def _device_checks(machine: Mapping, gpu: Mapping | None, allow_cpu: bool) -> list[Check]:
    if not gpu:
        remedy = f"install a driver and a torch build that support the GPU, {WITHOUT_GPU}"
        return [Check("device", allow_cpu, f"no GPU that torch can use: {machine['why_no_gpu']}", remedy)]
    capability, architectures = gpu["compute_capability"], machine["cuda_architectures"]
    others = [process for each in machine["gpus"] for process in each["processes"]]
    listed = ", ".join(f"{p['name']} ({p['pid']}) {(p['bytes'] or 0) / GB:.1f} GB" for p in others)
    return [
        Check("device", True, f"{gpu['name']}, compute capability {capability}, driver {machine['driver']}"),
        Check(
            "kernels",
            is_supported(capability, architectures),
            f"torch {machine['torch']} is built for {', '.join(architectures)}",
            "install a torch build for this GPU",
        ),
        Check("other processes on the GPU", True, listed or "none visible"),
    ]


def is_supported(capability: str, architectures: list[str]) -> bool:
    """Whether a build of torch supports a GPU.

    It does with kernels (``sm_``) of the same major generation that are not newer, or with code to compile
    (``compute_``) that is not newer.

    Args:
        capability: The GPU's compute capability, such as ``9.0``.
        architectures: Those of the build, such as ``sm_90``.
    """
    major, minor = map(int, capability.split("."))
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = "".join(filter(str.isdigit, number))
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and built[0] == major and built[1] <= minor:
            return True
        if kind == "compute" and built <= (major, minor):
            return True
    return False


def _precision_check(settings: TrainingSettings, resolved: TrainingSettings, has_gpu: bool) -> Check:
    instead = f" in place of {settings.precision}" if resolved != settings else ""
    remedy = "fp16 needs a GPU; set finetune.precision: fp32"
    return Check("precision", resolved.precision != "fp16" or has_gpu, f"{resolved.precision}{instead}", remedy)


def _library_checks(settings: TrainingSettings) -> list[Check]:
    checks = []
    if settings.quantization == "nf4":
        installed = importlib.util.find_spec("bitsandbytes") is not None
        remedy = "pip install -e '.[nf4]', or set finetune.quantization: none"
        detail = f"nf4, {'with' if installed else 'without'} bitsandbytes"
        checks.append(Check("quantization", installed, detail, remedy))
    if settings.report_to:
        obstacle = missing_reporter(settings.report_to)
        checks.append(Check("report_to", not obstacle, ", ".join(settings.report_to), obstacle or ""))
    return checks


def _data_check(train: list[dict] | None, clips: Mapping[str, int]) -> Check:
    detail = ", ".join(f"{counted(count, 'clip{s}')} in {split}" for split, count in clips.items()) or "not counted"
    remedy = "the training split is empty; correct annotations.split"
    return Check("data", train is None or bool(train), detail, remedy)


def _disk_check(free_disk: int, min_free_disk_gb: float) -> Check:
    detail = f"{free_disk / GB:.1f} GB free, at least {min_free_disk_gb:g} required"
    remedy = "free some space, or lower preflight.min_free_disk_gb"
    return Check("disk", free_disk >= min_free_disk_gb * GB, detail, remedy)


def _plan(settings: TrainingSettings) -> tuple[Launch | None, Check]:
    try:
        launch = plan_launch(settings)
    except InputError as error:
        remedy = "change finetune.processes or finetune.deepspeed"
        return None, Check("processes", False, str(error), remedy)
    return launch, Check("processes", True, f"{launch.processes}, DeepSpeed {launch.deepspeed or 'off'}")


def _cached_or_rehearsed(
    cache: RehearsalCache | None,
    step: Step,
    model: ModelPaths,
    longest: dict,
    shortest: tuple[dict, int],
    folder: Path,
    *,
    encode: bool,
    deepspeed_configs: str | Path,
    ready: RehearsalProcess | None,
) -> Rehearsal:
    key = cache.key(step, encode, deepspeed_configs, shortest[1]) if cache else ""
    if cache and (found := cache.read(key)):
        logger.info("%s: nothing that affects the rehearsal has changed; its result is used again", cache.path)
        return found
    options = {"encode": encode, "deepspeed_configs": deepspeed_configs, "ready": ready}
    rehearsal = rehearse(step, model, longest, folder, shortest=shortest[0], **options)
    if cache and rehearsal.measured:
        cache.write(key, rehearsal.measured)
    return rehearsal


def _rehearse_until_it_fits(
    step: Step, free_bytes: int, rehearse_step: Callable[[Step], Rehearsal]
) -> tuple[Step, Rehearsal]:
    """Rehearse; with an automatic batch size, again with less memory for as long as the device runs out of it."""
    automatic = step.settings.batch_size == "auto"
    if automatic:
        step = choose_micro_batch(step, free_bytes)
    while True:
        rehearsal = rehearse_step(step)
        less = with_less_memory(step) if automatic and rehearsal.outcome is Outcome.OUT_OF_MEMORY else None
        if less is None:
            return step, rehearsal
        step = less


def _memory_check(step: Step, rehearsal: Rehearsal, free_bytes: int) -> Check:
    predicted, measured = predicted_bytes(step), rehearsal.measured
    detail = f"predicted {predicted / GB:.2f} GB, {free_bytes / GB:.1f} GB free"
    if measured:
        detail = f"rehearsed {measured.peak_bytes / GB:.2f} GB{' before' if rehearsal.cached else ''}, {detail}"
    if rehearsal.message:
        detail = f"{rehearsal.message}; {detail}"
    if rehearsal.outcome in (Outcome.OK, Outcome.OUT_OF_MEMORY):
        needed = measured.peak_bytes if measured else max(free_bytes, predicted)
        remedy = what_would_fit(step, free_bytes, needed / predicted)
    else:
        remedy = "read the log of this rule for the whole error"
    return Check("memory", measured is not None and measured.peak_bytes <= free_bytes, detail, remedy)


def _disk_need_check(
    measured: Measured, save_total_limit: int, clips: Mapping[str, int], features: FeatureFiles, free_disk: int
) -> Check:
    missing = sum(clips.values()) if features.missing is None else features.missing
    missing = 0 if features.encode else missing
    feature_bytes = missing * measured.values_per_clip * DTYPES[features.dtype].itemsize
    checkpoints = (save_total_limit + 2) * measured.checkpoint_bytes  # the best, and one that is being written
    run_bytes = checkpoints + ADAPTERS * measured.adapter_bytes
    detail = (
        f"{feature_bytes / GB:.2f} GB for the features of {counted(missing, 'clip{s}')}, "
        f"{run_bytes / GB:.2f} GB for checkpoints and adapters"
    )
    name = "disk for features and checkpoints"
    return Check(name, feature_bytes + run_bytes <= free_disk, detail, "free some space")


def _batch(step: Step) -> dict:
    return {
        "effective": step.settings.effective_batch_size,
        "micro": step.micro_batch,
        "accumulation": step.settings.gradient_accumulation_steps,
        "gradient_checkpointing": step.settings.gradient_checkpointing,
    }
