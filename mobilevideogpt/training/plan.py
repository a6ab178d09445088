"""Decisions that the settings leave to the machine: precision, processes, DeepSpeed, supported optimisations."""

import importlib
import logging
import math
import os
from dataclasses import dataclass, replace
from typing import NamedTuple

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """How a fine-tuning runs: ``processes`` over all ``nodes``, and the name of the ZeRO configuration or None."""

    processes: int
    deepspeed: str | None
    nodes: int = 1

    @property
    def on_each_node(self) -> int:
        """Number of processes on each node, this machine or one like it."""
        return self.processes // self.nodes


class Optimisations(NamedTuple):
    """Which optimisations a training supports: ``kernels.fused.fuse`` and ``cuda_graphs.capture_passes``."""

    fused: bool
    cuda_graphs: bool


def is_first_process() -> bool:
    """Whether this is the only process of the training, or the first of several: the one that writes."""
    return int(os.environ.get("RANK", 0)) == 0


def resolve_precision(settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with fp16, under a scaled loss, in place of bf16 if the GPU does not compute in bf16.

    The digest is that of the settings as given: a move to another GPU retrains nothing.
    """
    import torch

    if settings.precision == "bf16" and torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        name = torch.cuda.get_device_name()
        logger.warning("%s does not compute in bf16; training in fp16 with a scaled loss", name)
        return replace(settings, precision="fp16")
    return settings


def plan_launch(settings: TrainingSettings) -> Launch:
    """Decide the number of processes, where the settings leave it to the machine, and check that DeepSpeed can be used.

    Several processes exchange gradients by PyTorch's DDP under ``deepspeed: auto``, which is the fastest;
    `sharing.choose_stage` puts a ZeRO stage in its place where memory asks for one.

    Raises:
        InputError: If the processes cannot share a batch or the GPUs, or a requested DeepSpeed cannot be used.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = _processes(settings, gpus)
    if settings.deepspeed in ("auto", "none"):
        return Launch(processes, None, settings.nodes)
    if obstacle := deepspeed_obstacle(settings):
        raise InputError(f"finetune.deepspeed: {settings.deepspeed}, but {obstacle}; set it to auto or none")
    return Launch(processes, settings.deepspeed, settings.nodes)


def _processes(settings: TrainingSettings, gpus: int) -> int:
    if "WORLD_SIZE" in os.environ:  # the processes are running already, possibly on several nodes
        processes = int(os.environ["WORLD_SIZE"])
        if settings.processes not in (None, processes) or settings.shared % processes:
            raise InputError(
                f"{processes} processes were started, but finetune.processes is {settings.processes or 'null'}, and "
                f"they share {settings.shared} clips; start as many, or choose a multiple"
            )
        return processes
    nodes, gpus = settings.nodes, gpus * settings.nodes  # the nodes are alike
    divisors = [n for n in range(nodes, max(gpus, nodes) + 1, nodes) if settings.shared % n == 0]
    processes = settings.processes or max(divisors)
    if gpus and processes > gpus:
        raise InputError(f"finetune.processes: {processes} processes, but there are {gpus} GPUs; choose at most {gpus}")
    if processes < gpus:
        logger.warning("training on %d of %d GPUs, which share %d clips", processes, gpus, settings.shared)
    return processes


def deepspeed_obstacle(settings: TrainingSettings) -> str | None:
    """Return why DeepSpeed cannot be used, or None."""
    if settings.precision == "fp16":
        return "it would keep the trained weights in fp16"
    try:
        importlib.import_module("deepspeed")
    except Exception as error:  # DeepSpeed raises exceptions of its own without a CUDA toolkit or a compiler
        return f"it cannot be imported here ({type(error).__name__}: {error})"
    return None


def supported_optimisations(settings: TrainingSettings, launch: Launch, device_type: str) -> Optimisations:
    """Return which optimisations a training supports.

    Fused kernels use a weight outside of its own module, and ZeRO-3 gathers it only there. CUDA graphs need these
    kernels, no recomputation, and no rounding by autocast, which trained or 4-bit weights need. They contain no
    exchange between processes: DDP and ZeRO-2 exchange the gradients that a replay returns, as those of any function.
    """
    fused = device_type == "cuda" and "zero3" not in (launch.deepspeed or "")
    plain = settings.method == "lora" and settings.quantization == "none" and not settings.gradient_checkpointing
    return Optimisations(fused, fused and plain)


def length_multiple(text_tokens: int) -> int:
    """Return the multiple to which batches are padded for CUDA graphs: four or five lengths then occur.

    Args:
        text_tokens: Tokens of the longest text.
    """
    return 64 * max(1, math.ceil(text_tokens / 256))
