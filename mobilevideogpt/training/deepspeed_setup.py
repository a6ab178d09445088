"""Set-up of the process for DeepSpeed, or for doing without it."""

import os
import socket
import sys


def prepare_deepspeed() -> None:
    """Let DeepSpeed start in a single process, without compiling anything on the CPU."""
    import deepspeed.ops
    import torch

    if not torch.cuda.is_available():  # gloo suffices; this extension needs a compiler and half a minute
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def use_expandable_segments() -> None:
    """Let PyTorch's CUDA allocator use expandable segments, unless the environment configures the allocator.

    Logits of answers of many lengths, and the weights that ZeRO-3 gathers, are tensors of many sizes. Segments of fixed
    size would leave a quarter to a third of the memory in gaps, more than a rehearsal of two lengths sees.
    """
    import torch

    configured = os.environ.keys() & {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"}
    if torch.cuda.is_available() and not configured:
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")


def hide_deepspeed() -> None:
    """Hide DeepSpeed from accelerate, which would import it wherever it is installed, even a broken one."""
    if "deepspeed" not in sys.modules:
        sys.modules["deepspeed"] = None  # type: ignore[assignment]  # as if it were not installed
