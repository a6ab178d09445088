"""Whether the fine-tuning runs on this machine: facts, predicted memory, and two rehearsed steps."""

import importlib.util
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from mobilevideogpt.data.encoding import DTYPES
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.training.arguments import missing_reporter
from mobilevideogpt.training.launch import LAUNCHED_BY, launcher_command
from mobilevideogpt.training.memory import predicted_bytes
from mobilevideogpt.training.micro_batch import fit_batch, free_bytes, longest_text, what_would_fit, with_less_memory
from mobilevideogpt.training.plan import Launch, plan_launch, resolve_precision
from mobilevideogpt.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

GB = 1e9
REHEARSAL_SECONDS = 900
NF4_REMEDY = "pip install '.[nf4]', or set finetune.quantization: none"
# Rehearsed where no records are given.
A_SAMPLE = {
    "video": "a clip",
    "conversations": [
        {"from": "human", "value": "<video>\nAnalyze this video and provide corrective feedback."},
        {"from": "gpt", "value": "squats - not deep enough, and the heels leave the floor; " * 6},
    ],
}


def preflight(
    settings: TrainingSettings,
    *,
    base: str | Path,
    run_folder: str | Path,
    allow_cpu: bool,
    min_free_disk_gb: float,
    video_encoder: str | Path | None = None,
    image_encoder: str | Path | None = None,
    train: list[dict] | None = None,
    clips: dict[str, int] | None = None,
    store: str | Path | None = None,
    features_dtype: str = "float16",
    encode: bool = False,
    deepspeed_configs: str | Path = "config",
) -> dict:
    """Check the machine against the settings, and rehearse if nothing speaks against it.

    Args:
        base: Folder of the base checkpoint.
        run_folder: Whose disk must have ``min_free_disk_gb`` free.
        allow_cpu: Whether to go on without a GPU.
        train: Annotation records to learn from, of which the longest is rehearsed; None takes one that is made up.
        clips: How many clips each split holds.
        store: Folder of the features, of which some may be there; on the disk they have ``features_dtype``.
        encode: Whether the training computes the features itself; the rehearsal does, the prediction leaves it out.

    Returns:
        ``ok``, ``device``, ``precision``, ``batch`` (how a step takes its clips), ``predicted_bytes`` and
        ``rehearsed_bytes`` (of the device's memory, None if not known), ``free_disk`` in bytes, ``machine``, and
        ``checks`` of ``name``, ``ok``, ``detail`` and ``remedy``.
    """
    checks = []

    def check(name: str, ok: bool, detail: str, remedy: str = "") -> None:
        checks.append({"name": name, "ok": bool(ok), "detail": detail, "remedy": "" if ok else remedy})

    machine = machine_facts()
    gpu = machine["gpus"][0] if machine["gpus"] else None
    _check_device(check, machine, gpu, allow_cpu)
    asked, settings = settings, resolve_precision(settings)
    instead = f" in place of {asked.precision}" if settings != asked else ""
    check(
        "precision",
        settings.precision != "fp16" or gpu,
        f"{settings.precision}{instead}",
        "fp16 needs a GPU: set finetune.precision: fp32",
    )
    if settings.quantization == "nf4":
        installed = importlib.util.find_spec("bitsandbytes") is not None
        check("quantization", installed, f"nf4, {'with' if installed else 'without'} bitsandbytes", NF4_REMEDY)
    if settings.report_to:
        obstacle = missing_reporter(settings.report_to)
        check("report_to", not obstacle, ", ".join(settings.report_to), obstacle)
    clips = clips or {}
    check(
        "data",
        train or train is None,
        ", ".join(f"{n} clips in {split}" for split, n in clips.items()) or "not counted",
        "there is nothing to train on: correct annotations.split",
    )
    folder = next(path for path in (Path(run_folder), *Path(run_folder).resolve().parents) if path.exists())
    free_disk = shutil.disk_usage(folder).free
    check(
        "disk",
        free_disk >= min_free_disk_gb * GB,
        f"{free_disk / GB:.1f} GB free, {min_free_disk_gb:g} wanted",
        "free some space, or lower preflight.min_free_disk_gb",
    )
    result = {"batch": None, "predicted_bytes": None, "rehearsed_bytes": None}
    try:
        launch = plan_launch(settings)
        check("processes", True, f"{launch.processes}, DeepSpeed {launch.deepspeed or 'off'}")
    except InputError as error:
        check("processes", False, str(error), "change finetune.processes or finetune.deepspeed")
    if all(entry["ok"] for entry in checks):
        model = {"base": base, "video_encoder": video_encoder, "image_encoder": image_encoder}
        processor = MobileVideoGPTProcessor.from_pretrained(base)
        longest, text = longest_text(train or [A_SAMPLE], processor, settings.max_text_tokens)
        there = free_bytes(launch.processes)
        if automatic := settings.batch_size == "auto":
            settings = fit_batch(settings, launch, base, text)
        while True:
            found, problem = rehearse(settings, launch, model, longest, folder, encode, deepspeed_configs)
            less = with_less_memory(settings, launch.processes) if automatic else None
            if not (less and _for_want_of_memory(problem)):
                break
            settings = less
        predicted = predicted_bytes(settings, base, text, launch.processes, launch.deepspeed, on_gpu=bool(gpu))
        rehearsed = found.get("peak_bytes")
        result = {
            "batch": {
                "effective": settings.effective_batch_size,
                "micro": settings.batch_size // launch.processes,
                "accumulation": settings.gradient_accumulation_steps,
                "gradient_checkpointing": settings.gradient_checkpointing,
            },
            "predicted_bytes": predicted,
            "rehearsed_bytes": rehearsed,
        }
        numbers = f"predicted {predicted / GB:.2f} GB, {there / GB:.1f} GB free"
        if rehearsed:
            numbers = f"rehearsed {rehearsed / GB:.2f} GB, {numbers}"
        fits = not problem and rehearsed <= there
        if fits or not problem or _for_want_of_memory(problem):
            scale = (rehearsed or max(there, predicted)) / predicted
            remedy = what_would_fit(settings, launch, base, text, there, scale)
        else:
            remedy = "the log of this rule says more"
        check("memory", fits, f"{problem}; {numbers}" if problem else numbers, remedy)
        if found:
            needed, detail = _disk_wanted(found, settings, clips, store, features_dtype, encode)
            check("disk for features and checkpoints", needed <= free_disk, detail, "free some space")
    ok = all(entry["ok"] for entry in checks)
    for entry in checks:
        logger.info("preflight, %s: %s", entry["name"], "; ".join(filter(None, (entry["detail"], entry["remedy"]))))
    return {
        "ok": ok,
        "device": gpu["name"] if gpu else "cpu",
        "precision": settings.precision,
        **result,
        "free_disk": free_disk,
        "machine": machine,
        "checks": checks,
    }


def _check_device(check, machine: dict, gpu: dict | None, allow_cpu: bool) -> None:
    what = f"no GPU that torch can use: {machine['why_no_gpu']}"
    if gpu:
        what = f"{gpu['name']}, compute capability {gpu['compute_capability']}, driver {machine['driver']}"
    check(
        "device",
        gpu or allow_cpu,
        what,
        "install a driver and a torch build that see the GPU, or set preflight.allow_cpu: true and be patient",
    )
    if not gpu:
        return
    check(
        "kernels",
        _built_for(gpu["compute_capability"]),
        f"torch {machine['torch']} is built for {', '.join(machine['cuda_architectures'])}",
        "install a torch build for this GPU",
    )
    others = [process for gpu in machine["gpus"] for process in gpu["processes"]]
    listed = ", ".join(f"{p['name']} ({p['pid']}) {(p['bytes'] or 0) / GB:.1f} GB" for p in others)
    check("other processes on the GPU", True, listed or "none seen")


def _disk_wanted(found: dict, settings, clips: dict, store, features_dtype: str, encode: bool) -> tuple[int, str]:
    """Return the bytes that a run is going to write, and in words what they are."""
    there = sum(1 for _ in Path(store).glob("*/*.safetensors")) if store else 0
    lacking = 0 if encode else max(0, sum(clips.values()) - there)
    features = lacking * found["values_a_clip"] * DTYPES[features_dtype].itemsize
    checkpoints = (settings.save_total_limit + 2) * found["checkpoint_bytes"]  # the best, and one being written
    total = features + checkpoints + 3 * found["adapter_bytes"]  # the best, the last, and the run's before
    return total, f"{features / GB:.2f} GB for features, {(total - features) / GB:.2f} GB for checkpoints and adapters"


def _for_want_of_memory(problem: str) -> bool:
    return "want of memory" in problem or "out of memory" in problem.lower()


def _built_for(capability: str) -> bool:
    """Whether torch holds kernels for a GPU: of the same major generation and no newer, or code to compile for it."""
    import torch

    major, minor = map(int, capability.split("."))
    for architecture in torch.cuda.get_arch_list():
        kind, _, number = architecture.partition("_")
        number = "".join(filter(str.isdigit, number))
        there = (int(number[:-1]), int(number[-1]))
        if (kind == "sm" and there[0] == major and there[1] <= minor) or (
            kind == "compute" and there <= (major, minor)
        ):
            return True
    return False


def machine_facts() -> dict:
    """Return what the machine is: versions, memory in bytes, and each GPU with its driver and other users."""
    import torch
    import transformers

    facts = {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": psutil.virtual_memory().available,
        "cuda": torch.version.cuda,
        "cuda_architectures": torch.cuda.get_arch_list() if torch.cuda.is_available() else [],
        "driver": _driver(),
        "why_no_gpu": None if torch.cuda.is_available() else _why_no_gpu(),
        "gpus": [],
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        facts["gpus"].append(
            {
                "name": properties.name,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "bf16": properties.major >= 8,
                "memory_bytes": properties.total_memory,
                "free_bytes": properties.total_memory - torch.cuda.device_memory_used(index),
                "processes": _processes_on(str(properties.uuid)),
            }
        )
    return facts


def _why_no_gpu() -> str:
    import torch

    try:
        torch.cuda.init()
    except Exception as error:  # AssertionError without CUDA in the build, RuntimeError without a driver for it
        return str(error).strip().splitlines()[0]
    return "none is visible"


def _processes_on(uuid: str) -> list[dict]:
    """Return pid, name and bytes of the processes that use a GPU; of those that the driver lets be seen."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        computing, drawing = (
            pynvml.nvmlDeviceGetComputeRunningProcesses(handle),
            pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        )
    except pynvml.NVMLError:
        return []
    found = {process.pid: process.usedGpuMemory for process in [*drawing, *computing] if process.pid != os.getpid()}
    names = {process.pid: process.info["name"] for process in psutil.process_iter(["name"])}
    return [{"pid": pid, "name": names.get(pid, "unknown"), "bytes": used} for pid, used in found.items()]


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, or None without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None


def rehearse(
    settings: TrainingSettings,
    launch: Launch,
    model: dict,
    longest: dict,
    folder: Path,
    encode: bool = False,
    deepspeed_configs: str | Path = "config",
) -> tuple[dict, str]:
    """Fine-tune for two steps on random features, in as many processes and with the DeepSpeed of the real run.

    Args:
        settings: With a number for ``batch_size``.
        model: ``base``, ``video_encoder`` and ``image_encoder``.
        longest: The annotation record that fills the batch.
        folder: What is written goes to a temporary folder below.

    Returns:
        What it took, as `training.rehearsal` tells it, of the process that took most; and what went wrong, or "".
    """
    for remains in folder.glob(".rehearsal-*"):  # of one that was killed
        shutil.rmtree(remains)
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=folder) as place:
        known = {"processes": launch.processes, "deepspeed": launch.deepspeed or "none"}
        request = {
            "settings": settings.__dict__ | known,
            "longest": longest,
            "folder": place,
            "encode": encode,
            "deepspeed_configs": str(deepspeed_configs),
            **{name: path and str(path) for name, path in model.items()},
        }
        module = ["-m", "mobilevideogpt.training.rehearsal", json.dumps(request)]
        command = launcher_command(launch.processes, module) if launch.processes > 1 else [sys.executable, *module]
        environment = os.environ | {LAUNCHED_BY: str(os.getpid())}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=REHEARSAL_SECONDS, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            return {}, f"two rehearsed steps took longer than {REHEARSAL_SECONDS} s"
        logger.info("rehearsal: %s%s", done.stdout, done.stderr)
        found = [read_json(path) for path in Path(place).glob("rehearsed-*.json")]
    if done.returncode < 0 or done.returncode == 128 + signal.SIGKILL:
        return {}, f"the rehearsal was killed by signal {abs(done.returncode) % 128}, most likely for want of memory"
    if done.returncode or len(found) < launch.processes:
        lines = done.stderr.strip().splitlines() or ["no message"]
        told = next((line for line in reversed(lines) if "Error" in line or "ERROR" in line), lines[-1])
        return {}, f"the rehearsal of two steps failed: {told}"
    return max(found, key=lambda each: each["peak_bytes"]), ""
