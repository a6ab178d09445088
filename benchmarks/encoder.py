"""Speed of the full-size video encoder and of its selective scan, by backend of the scan.

    python benchmarks/encoder.py [--runs 5]

On a CUDA device: milliseconds a clip by batch, dtype and backend, and the scan beside the time to read its inputs once
and write its output once at the measured copy bandwidth. On a CPU: seconds for one clip, beside the encoder with a scan
that loops over the tokens in PyTorch, and beside its matrix products alone. Weights and pixels are random.
"""

import argparse
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevideogpt.model import videomamba
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.kernels.scan import pytorch_scan, scan_reversed, selective_scan

CONFIG = MobileVideoGPTConfig()
COPY_BYTES = 2**30  # far beyond any cache
CUDA_SECONDS = 0.05  # of work between two events, so that launches hide behind it


def step_loop_scan(u, delta, A, B, C, D, z, delta_bias, reverse=False) -> Tensor:
    """Compute `selective_scan` with a loop over the tokens, the simplest implementation in PyTorch."""
    u32 = u.float().mT.contiguous()  # (B, L, D), so that the channels of a token are adjacent
    step = F.softplus(delta.float().mT + delta_bias)
    x = step * u32
    B, C = B.float().mT.contiguous(), C.float().mT.contiguous()  # (B, L, N)
    state = torch.zeros(len(u), *A.shape, device=u.device)  # (B, D, N)
    y = torch.empty_like(u32)
    tokens = range(u.shape[2])
    for t in reversed(tokens) if reverse else tokens:
        keep = (step[:, t, :, None] * A).exp_()
        state = torch.addcmul(keep.mul_(state), x[:, t, :, None], B[:, t, None])
        torch.bmm(state, C[:, t, :, None], out=y[:, t, :, None])
    return ((y + u32 * D) * F.silu(z.float().mT)).mT.to(u.dtype)


def in_both_directions(scan: Callable) -> Callable:
    """Give a scan of one direction the signature of `selective_scan`."""
    return lambda *tensors, reverse=False: scan_reversed(scan, *tensors) if reverse else scan(*tensors)


def random_encoder() -> videomamba.VideoMamba:
    """Make a VideoMamba-M as before training."""
    torch.manual_seed(0)
    encoder = videomamba.VideoMamba(CONFIG).eval().requires_grad_(False)
    for table in (encoder.cls_token, encoder.pos_embed, encoder.temporal_pos_embedding):
        nn.init.trunc_normal_(table, std=0.02)
    for block in encoder.layers:
        videomamba.init_mixer(block.mixer)
    return encoder


def random_clips(batch: int) -> Tensor:
    """Draw standardised pixels, ``(B, T, 3, H, W)``."""
    return torch.randn(batch, CONFIG.video_num_frames, 3, CONFIG.image_size, CONFIG.image_size)


def with_scan(encoder: nn.Module, clips: Tensor, scan: Callable) -> Callable[[], Tensor]:
    """Return the forward pass of the encoder with another scan."""

    def forward():
        with patch.object(videomamba, "selective_scan", scan):
            return encoder(clips)

    return forward


def scan_inputs(encoder: nn.Module, clips: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors that the forward branch of the first block gives to the scan, with their strides."""

    class Found(Exception):
        pass

    def stop(*tensors, reverse):
        raise Found(tensors)

    try:
        with_scan(encoder, clips, stop)()
    except Found as found:
        return found.args[0]
    raise RuntimeError("the encoder did not call the scan")


def cuda_seconds(call: Callable[[], object]) -> float:
    """Measure the seconds of a call, as the mean of several in a row."""

    def several(count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / count

    return several(max(1, int(CUDA_SECONDS / several(1))))


def cpu_seconds(call: Callable[[], object]) -> float:
    """Measure the seconds of the second of two calls, because the first meets caches and memory of another backend."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def copy_bandwidth(runs: int) -> float:
    """Measure the bytes a second of a large copy on the GPU, reads and writes together."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / measure(cuda_seconds, {"copy": partial(target.copy_, source)}, runs)["copy"]


def measure(seconds: Callable, calls: dict[str, Callable], runs: int, of=statistics.median) -> dict[str, float]:
    """Return median seconds of each call; calls alternate, so that a slow phase of the machine affects all of them."""
    for call in calls.values():  # compiles, allocates
        call()
    taken = [{name: seconds(call) for name, call in calls.items()} for _ in range(runs)]
    return {name: of(times[name] for times in taken) for name in calls}


def cuda_backends() -> dict[str, Callable]:
    """Return the scans that run on the GPU of this machine."""
    from mobilevideogpt.model.kernels.scan_triton import triton_scan

    backends = {"triton": triton_scan, "pytorch": in_both_directions(pytorch_scan)}
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        print(f"mamba_ssm: not importable here ({error})")
    else:
        backends["mamba_ssm"] = in_both_directions(
            lambda u, delta, A, B, C, D, z, delta_bias: selective_scan_fn(
                u, delta, A, B, C, D, z, delta_bias, delta_softplus=True
            )
        )
    return backends


def on_cuda(runs: int) -> None:
    """Print the tables for a CUDA device."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; medians of {runs} runs")
    backends = cuda_backends()
    bandwidth = copy_bandwidth(runs)
    print(f"copy bandwidth {bandwidth / 1e9:.0f} GB/s, read and written bytes together\n")
    encoder = random_encoder().cuda()
    print(
        f"{'encoder, ms a clip':20} {'batch':>5} "
        + " ".join(f"{backend:>10}" for backend in backends)
        + "  pytorch / triton"
    )
    for dtype in (torch.float32, torch.bfloat16):
        encoder = encoder.to(dtype)
        for batch in (1, 8):
            clips = random_clips(batch).cuda()
            times = measure(
                cuda_seconds, {backend: with_scan(encoder, clips, scan) for backend, scan in backends.items()}, runs
            )
            cells = " ".join(f"{times[backend] / batch * 1000:10.2f}" for backend in backends)
            print(f"{dtype!s:20} {batch:5} {cells} {times['pytorch'] / times['triton']:15.1f}", flush=True)
    print(f"\n{'scan, ms at batch 8':20} {'traffic':>8} " + " ".join(f"{backend:>10} ratio" for backend in backends))
    for dtype in (torch.float32, torch.bfloat16):
        tensors = scan_inputs(encoder.to(dtype), random_clips(8).cuda())
        u, delta, _, B, C, _, z, _ = tensors
        moved = sum(t.nbytes for t in (u, delta, B, C, z, u))  # y is as large as u
        traffic = moved / bandwidth
        times = measure(cuda_seconds, {backend: partial(scan, *tensors) for backend, scan in backends.items()}, runs)
        cells = " ".join(f"{times[backend] * 1000:10.3f} {times[backend] / traffic:5.1f}" for backend in backends)
        print(f"{dtype!s:20} {traffic * 1000:8.3f} {cells}", flush=True)


def matrix_products(encoder: videomamba.VideoMamba, clips: Tensor) -> Callable[[], None]:
    """Return a call of the linear layers of the encoder alone, on random inputs."""
    mixers = [block.mixer for block in encoder.layers]
    length, inner = encoder.embed(clips).shape[1], mixers[0].conv1d.in_channels
    hidden = torch.randn(len(clips), length, CONFIG.video_hidden_size)
    wide, steps = torch.randn(len(clips), length, inner), torch.randn(len(clips), length, mixers[0].dt_rank)

    def products():
        for mixer in mixers:
            F.linear(hidden, mixer.in_proj.weight)
            for x_proj, dt_proj in ((mixer.x_proj, mixer.dt_proj), (mixer.x_proj_b, mixer.dt_proj_b)):
                F.linear(wide, x_proj.weight)
                F.linear(steps, dt_proj.weight)
            F.linear(wide, mixer.out_proj.weight)

    return products


def on_cpu(runs: int) -> None:
    """Print the tables for the CPU."""
    name = platform.processor() or platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}")
    encoder, clips = random_encoder(), random_clips(1)
    tensors = scan_inputs(encoder, clips)
    scans = {"ours": selective_scan, "loop": step_loop_scan}
    alone = {backend: partial(scan, *tensors) for backend, scan in scans.items()}
    whole = {backend: with_scan(encoder, clips, scan) for backend, scan in scans.items()}
    whole["products"] = matrix_products(encoder, clips)
    print(f"one clip, float32; median (least) seconds of {runs} runs, of the scan alone {5 * runs}")
    for what, calls, count in (("scan, one layer and direction", alone, 5 * runs), ("encoder", whole, runs)):
        taken = measure(cpu_seconds, calls, count, of=sorted)
        median = {backend: statistics.median(seconds) for backend, seconds in taken.items()}
        cells = ", ".join(f"{backend} {median[backend]:.4f} ({taken[backend][0]:.4f})" for backend in calls)
        ratios = median["loop"] / median["ours"], taken["loop"][0] / taken["ours"][0]
        print("{}: {}; loop / ours {:.2f} ({:.2f})".format(what, cells, *ratios), flush=True)


def main() -> None:
    """Parse the command line, measure the GPU or else the CPU, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with torch.inference_mode():
        (on_cuda if torch.cuda.is_available() else on_cpu)(options.runs)


if __name__ == "__main__":
    main()
