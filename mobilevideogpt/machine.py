"""Facts about this machine: GPUs, driver, memory, disk, versions, revision of the code.

Importing this module imports neither torch nor NVML's bindings; the functions that need them do.
"""

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil
from packaging.requirements import Requirement

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "deepspeed", "triton", "liger-kernel", "bitsandbytes")


class DriverError(Exception):
    """NVIDIA's driver is missing or failed; the message is its library's."""


class Gpu(NamedTuple):
    """A GPU as its driver describes it; memory in bytes."""

    name: str
    free_bytes: int
    memory_bytes: int


class GpuProcess(NamedTuple):
    """A process that uses a GPU; ``bytes`` is None where the driver does not tell."""

    pid: int
    name: str
    bytes: int | None


def driver_gpus() -> list[Gpu]:
    """Return the GPUs that the driver lists, without torch.

    Raises:
        DriverError: If there is no driver.
    """
    with _nvml() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        memories = [nvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        names = [nvml.nvmlDeviceGetName(handle) for handle in handles]
    return [Gpu(name, memory.free, memory.total) for name, memory in zip(names, memories, strict=True)]


def device_line() -> str:
    """Return in a phrase what computes here, without torch: ``NVIDIA H200, 139 GB``, or the number of CPU cores."""
    try:
        gpus = driver_gpus()
    except DriverError:
        gpus = []
    if not gpus:
        return f"CPU, {os.cpu_count()} cores; no GPU"
    several = f"{len(gpus)} x " if len(gpus) > 1 else ""
    return f"{several}{gpus[0].name}, {gpus[0].memory_bytes / 2**30:.0f} GiB"


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver, or None without one."""
    try:
        with _nvml() as nvml:
            return nvml.nvmlSystemGetDriverVersion()
    except DriverError:
        return None


def gpu_processes(uuid: str) -> list[GpuProcess]:
    """Return the other processes that use a GPU, as far as the driver shows them.

    Args:
        uuid: The GPU's, with or without ``GPU-`` in front.
    """
    try:
        with _nvml() as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
            graphics = nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
            compute = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except DriverError:
        return []
    used = {process.pid: process.usedGpuMemory for process in [*graphics, *compute] if process.pid != os.getpid()}
    names = {process.pid: process.info["name"] for process in psutil.process_iter(["name"])} if used else {}
    return [GpuProcess(pid, names.get(pid) or "unknown", size) for pid, size in used.items()]


@contextmanager
def _nvml() -> Iterator[ModuleType]:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise DriverError(str(error)) from error


def machine_facts() -> dict:
    """Return versions, memory in bytes, and each GPU that torch can use, for the record of the preflight."""
    import torch

    has_gpu, memory = torch.cuda.is_available(), psutil.virtual_memory()
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "cpu_count": os.cpu_count(),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "cuda": torch.version.cuda,
        "cuda_architectures": torch.cuda.get_arch_list() if has_gpu else [],
        "driver": driver_version(),
        "why_no_gpu": None if has_gpu else _why_no_gpu(),
        "gpus": [_gpu_facts(index) for index in range(torch.cuda.device_count() if has_gpu else 0)],
    }


def _gpu_facts(index: int) -> dict:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "bf16": properties.major >= 8,
        "memory_bytes": properties.total_memory,
        "free_bytes": free_gpu_bytes(index),
        "processes": [process._asdict() for process in gpu_processes(str(properties.uuid))],
    }


def _why_no_gpu() -> str:
    import torch

    try:
        torch.cuda.init()
    except Exception as error:  # AssertionError in a build without CUDA, RuntimeError without a driver for it
        return str(error).strip().splitlines()[0]
    return "none is visible"


def free_gpu_bytes(index: int) -> int:
    """Return the free memory of a GPU. The driver answers, so this process takes no memory of the GPU."""
    import torch

    return torch.cuda.get_device_properties(index).total_memory - torch.cuda.device_memory_used(index)


def free_bytes_for_each(processes: int) -> int:
    """Return the free memory for each process: of the fullest GPU, or without one its share of main memory."""
    import torch

    if not torch.cuda.is_available():
        return psutil.virtual_memory().available // processes
    return min(free_gpu_bytes(index) for index in range(min(processes, torch.cuda.device_count())))


def smallest_gpu_bytes(count: int) -> int | None:
    """Return the memory of the smallest of the first ``count`` GPUs, whatever is in use; None without a GPU."""
    import torch

    gpus = range(min(count, torch.cuda.device_count()) if torch.cuda.is_available() else 0)
    return min((torch.cuda.get_device_properties(index).total_memory for index in gpus), default=None)


def peak_memory_bytes() -> int:
    """Return the peak GPU memory that torch reserved in this process, or without a GPU the peak main memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")  # on Linux, getrusage starts from the peak of the parent process
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def peak_memory() -> dict[str, int]:
    """Return the peaks of this process: ``reserved_bytes`` as `peak_memory_bytes`, and on a GPU ``allocated_bytes``."""
    import torch

    allocated = {"allocated_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}
    return {"reserved_bytes": peak_memory_bytes(), **allocated}


def device_name() -> str:
    """Return the name of the GPU, or of the processor's architecture."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"


def nearest_folder(path: str | Path) -> Path:
    """Return ``path``, or the nearest folder above it that exists."""
    return next(folder for folder in (Path(path), *Path(path).resolve().parents) if folder.exists())


def free_disk_bytes(path: str | Path) -> int:
    """Return the free space of the disk that ``path`` is on or will be on."""
    return shutil.disk_usage(nearest_folder(path)).free


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each library; ``none`` for a missing one."""
    return {name: _version(name) or "none" for name in names}


def versions() -> dict[str, str]:
    """Return the versions of Python, of CUDA and of the libraries that training uses; ``none`` for a missing one."""
    import torch

    return {"python": platform.python_version(), "cuda": torch.version.cuda or "none", **library_versions(LIBRARIES)}


def unmet_requirements(distribution: str) -> list[str]:
    """Return a problem for each required package of a distribution that is missing or of another version."""
    problems = []
    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            problems.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return problems


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """Return the commit of the code, ``-dirty`` if files differ from it; None outside a clone or without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
