"""The backends of the selective scan and of the convolution, and which of them run on this machine.

- mamba_ssm: the kernel of that package, if it is installed; CUDA.
- Triton: kernels for any other CUDA device.
- Numba: compiled loops for the CPU, without a gradient.
- PyTorch: `scan.pytorch_scan`, on every device, but slow.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MAX_LORA_RANK = 128  # up to which the tiles fit the shared memory of a GeForce


def inference_scan(device_type: str) -> Callable[..., Tensor] | None:
    """Return the fastest scan without a gradient that runs in both directions, if there is one for this device."""
    if device_type == "cuda" and not mamba_ssm_scan() and triton_works():
        from mobilevideogpt.model.kernels.scan_triton import triton_scan

        return triton_scan
    return numba_scan() if device_type == "cpu" else None


def inference_convolution(device_type: str) -> Callable[..., Tensor] | None:
    """Return the fastest `mobilevideogpt.model.videomamba.Convolution` without a gradient, if there is a kernel."""
    if device_type == "cuda" and triton_works():
        from mobilevideogpt.model.kernels.conv_triton import triton_conv_silu

        return triton_conv_silu
    if device_type == "cpu" and numba_scan():
        from mobilevideogpt.model.kernels.scan_cpu import cpu_conv_silu

        return cpu_conv_silu
    return None


@cache
def mamba_ssm_scan() -> Callable[..., Tensor] | None:
    """Return the scan of the package mamba_ssm, if it can be imported."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore[reportMissingImports]
    except ImportError:  # not installed, or built for another torch
        return None
    return selective_scan_fn


@cache
def triton_works() -> bool:
    """Tell whether Triton kernels run on this machine, and log a warning if not."""
    try:
        from mobilevideogpt.model.kernels.scan_triton import triton_scan

        one = torch.ones(1, 1, 1, device="cuda")
        triton_scan(one, one, -one[0], one, one, one[0, 0], one, one[0, 0])
    except (ImportError, RuntimeError, OSError) as error:  # no Triton, or no C compiler, which Triton needs
        log.warning("the selective scan falls back to the PyTorch backend, which is slow on a GPU: %s", error)
        return False
    return True


@cache
def numba_scan() -> Callable[..., Tensor] | None:
    """Return the scan that Numba compiles for the CPU, and log a warning if Numba cannot be imported."""
    try:
        from mobilevideogpt.model.kernels.scan_cpu import cpu_scan
    except ImportError as error:  # Numba also raises this beside a NumPy that it does not support
        log.warning("the selective scan falls back to the PyTorch backend, which is slow: %s", error)
        return None
    return cpu_scan


def lora_kernels_support(dtype: torch.dtype, rank: int) -> bool:
    """Tell whether the Triton kernels of LoRA support this precision and rank here; without a GPU, on a recent one."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return False  # Triton does not use the tensor cores of these GPUs
    return dtype in (torch.float16, torch.bfloat16) and rank <= MAX_LORA_RANK
