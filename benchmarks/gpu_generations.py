"""Compile every Triton kernel for each generation of NVIDIA GPUs; needs Triton, but no GPU.

    python benchmarks/gpu_generations.py

Prints registers, spilled bytes a thread and shared memory of each kernel. A kernel that does not compile, or needs more
shared memory than that generation has, ends the benchmark with an error.
"""

import re
import subprocess
import tempfile
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.kernels import conv_triton, decoder_triton, scan_triton
from mobilevideogpt.model.kernels.backends import MAX_LORA_RANK

# Compute capability, an example, KiB of shared memory that a program may use (CUDA C++ programming guide, table
# "technical specifications per compute capability").
GENERATIONS = {75: ("T4", 64), 80: ("A100", 163), 86: ("RTX 3070", 99), 89: ("RTX 4060", 99), 90: ("H100", 227),
               100: ("B200", 227), 120: ("RTX 5060", 99)}  # fmt: skip
CONFIG = MobileVideoGPTConfig()
WIDTH, STATES = CONFIG.video_expand * CONFIG.video_hidden_size, CONFIG.video_state_size
RANK = CONFIG.video_hidden_size // 16  # of VideoMamba's step projection
TOKENS = 1 + CONFIG.video_num_frames * CONFIG.num_patches
LENGTH = CONFIG.num_visual_tokens + 40  # of a sample with its text


class NoGpu:
    """Replaces Triton's driver by a GPU of some generation that loads compiled kernels and runs none."""

    def __init__(self, capability: int):
        self.capability, self.utils, self.used = capability, self, []

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return self.capability  # Triton caches compiled kernels by device

    def get_current_stream(self, device):
        return 0

    def get_device_properties(self, device):
        return {"max_shared_mem": GENERATIONS[self.capability][1] * 1024}

    def launcher_cls(self, source, metadata):
        return lambda *arguments: None

    def load_binary(self, name, binary, shared, device):
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(binary)
            file.flush()
            command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, spilled = map(int, re.search(r"REG:(\d+) STACK:(\d+)", text).groups())
        self.used.append((registers, spilled, shared))
        return None, None, registers, spilled, 1024


def scan(dtype: torch.dtype, batch: int, reverse: bool) -> None:
    """Call the scan as VideoMamba's mixer does."""
    u, delta = torch.empty(2, batch, TOKENS, WIDTH, dtype=dtype)
    z = torch.empty(batch, TOKENS, 2 * WIDTH, dtype=dtype)[:, :, WIDTH:]
    _, B, C = torch.empty(batch, TOKENS, RANK + 2 * STATES, dtype=dtype).split([RANK, STATES, STATES], -1)
    one = torch.ones(WIDTH)
    scan_triton.triton_scan(u.mT, delta.mT, -torch.ones(WIDTH, STATES), B.mT, C.mT, one, z.mT, one, reverse)


def convolution(dtype: torch.dtype, reverse: bool) -> None:
    """Call the convolution as VideoMamba's mixer does."""
    x = torch.empty(1, TOKENS, 2 * WIDTH, dtype=dtype)[:, :, :WIDTH]
    conv_triton.triton_conv_silu(
        x, torch.ones(WIDTH, 1, CONFIG.video_conv_kernel, dtype=dtype), torch.ones(WIDTH, dtype=dtype), reverse
    )


def lora(dtype: torch.dtype, rank: int) -> None:
    """Call the kernels of a decoder layer as a training step does, for the groups of 3, 2, 1 and 1 layers."""
    rank, hidden, inner = max(16, rank), CONFIG.hidden_size, CONFIG.intermediate_size
    x, weight, rstd = torch.empty(LENGTH, hidden, dtype=dtype), torch.empty(hidden, dtype=dtype), torch.empty(LENGTH)
    both, dcat = torch.empty(LENGTH, 2 * inner, dtype=dtype), torch.empty(LENGTH, inner + rank, dtype=dtype)
    for n, width in ((3, hidden), (2, hidden), (1, hidden), (1, inner)):
        a, seeds = torch.empty(n * rank, width, dtype=dtype), torch.ones(n, dtype=torch.int64)
        group = SimpleNamespace(rows=[0] * n, rank=rank, p=0.05, scaling=2.0, a=a, seeds=seeds)
        if width == inner:
            decoder_triton.swiglu_inputs(both, group)
            decoder_triton.swiglu_gradients(both, group, dcat, None)
        elif n == 1:
            decoder_triton.plain_inputs(x, group)
            decoder_triton.plain_gradients(x, group, dcat, None)
        else:
            decoder_triton.norm_inputs(x, x, weight, 1e-6, group)
            decoder_triton.norm_gradients(x, rstd, weight, group, dcat, x, None)


def calls(capability: int):
    """Yield the name of each call and the call."""
    halves = [torch.float16] if capability < 80 else [torch.float16, torch.bfloat16]
    for dtype in (torch.float32, *halves):
        for batch in (1, 8):
            for reverse in (False, True):
                yield f"scan {dtype} {batch} clips, reverse {reverse}", lambda a=(dtype, batch, reverse): scan(*a)
        for reverse in (False, True):
            yield f"convolution {dtype}, reverse {reverse}", lambda a=(dtype, reverse): convolution(*a)
    if capability >= 80:  # see `mobilevideogpt.model.kernels.backends.lora_kernels_support`
        for dtype in halves:
            for rank in (8, 64, MAX_LORA_RANK):
                yield f"LoRA {dtype}, r {rank}", lambda a=(dtype, rank): lora(*a)


def main() -> None:
    """Compile, print."""
    print(f"Triton {triton.__version__}, torch {torch.__version__}")
    for module in (scan_triton, decoder_triton):
        module.multiprocessors = lambda device: 132
    for capability, (example, limit) in GENERATIONS.items():
        gpu = NoGpu(capability)
        driver.set_active(gpu)
        here = divmod(capability, 10)
        with patch("torch.cuda.device", nullcontext), patch("torch.cuda.get_device_capability", lambda *_, h=here: h):
            print(f"compute capability {capability / 10}, as {example}: {limit} KiB of shared memory")
            for name, call in calls(capability):
                gpu.used.clear()
                call()
                cells = "; ".join("{} registers, {} B spilled, {} B shared".format(*used) for used in gpu.used)
                print(f"  {name}: {cells or 'as above'}", flush=True)


if __name__ == "__main__":
    main()
