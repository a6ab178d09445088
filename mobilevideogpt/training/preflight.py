"""Whether the fine-tuning runs on this machine: facts, predicted memory, and two rehearsed steps."""

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.arguments import TrainingSettings, plan_launch
from mobilevideogpt.training.memory import predicted_bytes

logger = logging.getLogger(__name__)

GB = 1e9
REHEARSAL_SECONDS = 900
TEXT_TOKENS = 128  # of a prompt and its answer, where the longest is not told


def preflight(
    settings: TrainingSettings,
    *,
    base: str | Path,
    run_folder: str | Path,
    allow_cpu: bool,
    min_free_disk_gb: float,
    video_encoder: str | Path | None = None,
    image_encoder: str | Path | None = None,
    text_tokens: int = TEXT_TOKENS,
    encode: bool = False,
) -> dict:
    """Check the machine against the settings, and rehearse if nothing speaks against it.

    Args:
        base: Folder of the base checkpoint.
        run_folder: Whose disk must have ``min_free_disk_gb`` free.
        allow_cpu: Whether to go on without a GPU.
        text_tokens: Prompt and answer of the longest sample, in tokens.
        encode: Whether the training computes the features itself; the rehearsal does, the prediction leaves it out.

    Returns:
        ``ok``, ``device``, ``precision``, ``predicted_bytes`` and ``rehearsed_bytes`` (of the device's memory, None if
        not known), ``free_disk`` in bytes, ``machine``, and ``checks`` of ``name``, ``ok``, ``detail`` and ``remedy``.
    """
    checks = []

    def check(name: str, ok: bool, detail: str, remedy: str = "") -> None:
        checks.append({"name": name, "ok": bool(ok), "detail": detail, "remedy": "" if ok else remedy})

    machine = machine_facts()
    gpu = machine["gpus"][0] if machine["gpus"] else None
    check(
        "device",
        gpu or allow_cpu,
        f"{gpu['name']}, compute capability {gpu['compute_capability']}" if gpu else "no GPU that torch can use",
        "install a driver and a torch build that see the GPU, or set preflight.allow_cpu: true and be patient",
    )
    if gpu:
        kernels = f"sm_{gpu['compute_capability'].replace('.', '')}"
        check(
            "kernels",
            _built_for(gpu["compute_capability"]),
            f"{kernels}, torch {machine['torch']} is built for {', '.join(machine['cuda_architectures'])}",
            "install a torch build for this GPU",
        )
    possible = {"fp32": True, "bf16": not gpu or gpu["bf16"], "fp16": bool(gpu)}[settings.precision]
    check(
        "precision",
        possible,
        f"{settings.precision} {'works' if possible else 'does not work'} on this device",
        f"set finetune.precision: {'fp16' if gpu else 'fp32'}",
    )
    folder = next(path for path in (Path(run_folder), *Path(run_folder).resolve().parents) if path.exists())
    free_disk = shutil.disk_usage(folder).free
    check(
        "disk",
        free_disk >= min_free_disk_gb * GB,
        f"{free_disk / GB:.1f} GB free, {min_free_disk_gb:g} wanted",
        "free some space, or lower preflight.min_free_disk_gb",
    )
    result = {"predicted_bytes": None, "rehearsed_bytes": None}
    try:
        launch = plan_launch(settings)
        check("processes", True, f"{launch.processes}, DeepSpeed {launch.deepspeed or 'off'}")
    except InputError as error:
        check("processes", False, str(error), "change finetune.processes or finetune.deepspeed")
    if all(entry["ok"] for entry in checks):
        result["predicted_bytes"] = predicted_bytes(
            settings, base, text_tokens, launch.processes, bool(launch.deepspeed), on_gpu=bool(gpu)
        )
        rehearsed, problem = rehearse(
            settings, base, video_encoder, image_encoder, text_tokens, launch.processes, encode
        )
        result["rehearsed_bytes"] = rehearsed
        there = gpu["free_bytes"] if gpu else machine["memory_available_bytes"]
        numbers = f"predicted {result['predicted_bytes'] / GB:.2f} GB, {there / GB:.1f} GB free"
        if rehearsed:
            numbers = f"rehearsed {rehearsed / GB:.2f} GB, {numbers}"
        check("memory", not problem and rehearsed <= there, problem or numbers, _what_takes_less(settings))
    ok = all(entry["ok"] for entry in checks)
    for entry in checks:
        if not entry["ok"]:
            logger.warning("preflight, %s: %s; %s", entry["name"], entry["detail"], entry["remedy"])
    return {
        "ok": ok,
        "device": gpu["name"] if gpu else "cpu",
        "precision": settings.precision,
        **result,
        "free_disk": free_disk,
        "machine": machine,
        "checks": checks,
    }


def _what_takes_less(settings: TrainingSettings) -> str:
    ways = []
    if not settings.gradient_checkpointing:
        ways.append("set finetune.gradient_checkpointing: true (about a third slower)")
    if settings.batch_size > 1:
        ways.append(
            f"halve finetune.batch_size and double finetune.gradient_accumulation_steps to "
            f"{2 * settings.gradient_accumulation_steps} (the same result, somewhat slower)"
        )
    ways.append("close what else uses the device's memory")
    return "; or ".join(ways)


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
        "gpus": [],
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        facts["gpus"].append(
            {
                "name": properties.name,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "bf16": properties.major >= 8,
                "memory_bytes": total,
                "free_bytes": free,
            }
        )
    return facts


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
    base,
    video_encoder,
    image_encoder,
    text_tokens: int,
    processes: int = 1,
    encode: bool = False,
) -> tuple[int | None, str]:
    """Take two training steps on random features in a process of its own.

    Returns:
        The most memory that it took, in bytes of the device or, on the CPU, of the process; and what went wrong, or "".
    """
    request = {
        "settings": {**settings.__dict__, "batch_size": settings.batch_size // processes, "processes": None},
        "base": str(base),
        "video_encoder": video_encoder and str(video_encoder),
        "image_encoder": image_encoder and str(image_encoder),
        "text_tokens": text_tokens,
        "encode": encode,
    }
    command = [sys.executable, "-m", "mobilevideogpt.training.rehearsal", json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REHEARSAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, f"two rehearsed steps took longer than {REHEARSAL_SECONDS} s"
    logger.info("rehearsal: %s%s", done.stdout, done.stderr)
    if done.returncode < 0:
        return None, f"the rehearsal was killed by signal {-done.returncode}, most likely for want of memory"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return None, f"the rehearsal of two steps failed: {last}"
    return json.loads(done.stdout.splitlines()[-1])["peak_bytes"], ""
