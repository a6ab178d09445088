"""Speed of the full-size video encoder and of its selective scan, by the way that the scan is computed.

    python benchmarks/encoder.py [--runs 5]

On a CUDA device: milliseconds a clip by batch, dtype and way, and the scan beside the time that reading its inputs once
and writing its output once takes at the measured copy bandwidth. Elsewhere: seconds for one clip, beside the encoder
with a scan that loops over the tokens in PyTorch, and beside its matrix products alone. Weights and pixels are random.
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
from mobilevideogpt.model.kernels.scan import flipped, plain_scan, selective_scan

CONFIG = MobileVideoGPTConfig()
COPY_BYTES = 2**30  # far beyond any cache
CUDA_SECONDS = 0.05  # of work between two events, so that launches hide behind it


def step_loop_scan(u, delta, A, B, C, D, z, delta_bias, reverse=False) -> Tensor:
    """`selective_scan` one token after the other: what PyTorch alone does without further thought for its speed."""
    u32 = u.float().mT.contiguous()  # (B, L, D), so that a token's numbers lie together
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


def both_ways(scan: Callable) -> Callable:
    """A scan that knows one direction, as `selective_scan` is called."""
    return lambda *tensors, reverse=False: flipped(scan, *tensors) if reverse else scan(*tensors)


def random_encoder() -> videomamba.VideoMamba:
    """A VideoMamba-M as it would start its training."""
    torch.manual_seed(0)
    encoder = videomamba.VideoMamba(CONFIG).eval().requires_grad_(False)
    for table in (encoder.cls_token, encoder.pos_embed, encoder.temporal_pos_embedding):
        nn.init.trunc_normal_(table, std=0.02)
    for block in encoder.layers:
        videomamba.init_mixer(block.mixer)
    return encoder


def random_clips(batch: int) -> Tensor:
    """Normalised pixels, ``(B, T, 3, H, W)``."""
    return torch.randn(batch, CONFIG.video_num_frames, 3, CONFIG.image_size, CONFIG.image_size)


def with_scan(encoder: nn.Module, clips: Tensor, scan: Callable) -> Callable[[], Tensor]:
    """The encoder's forward pass with another scan in it."""

    def forward():
        with patch.object(videomamba, "selective_scan", scan):
            return encoder(clips)

    return forward


def scan_inputs(encoder: nn.Module, clips: Tensor) -> tuple[Tensor, ...]:
    """What the first block's forward branch gives the scan, strides included."""

    class Found(Exception):
        pass

    def stop(*tensors, reverse):
        raise Found(tensors)

    try:
        with_scan(encoder, clips, stop)()
    except Found as found:
        return found.args[0]
    raise RuntimeError("the encoder calls no scan")


def cuda_seconds(call: Callable[[], object]) -> float:
    """Seconds of one of several calls in a row."""

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
    """Seconds of the second of two calls: clip follows clip, and the first finds another way's caches and memory."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def copy_bandwidth(runs: int) -> float:
    """Bytes a second of a large copy on the GPU, those read and those written together."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / measure(cuda_seconds, {"copy": partial(target.copy_, source)}, runs)["copy"]


def measure(seconds: Callable, calls: dict[str, Callable], runs: int, of=statistics.median) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a slow spell of the machine meets all of them."""
    for call in calls.values():  # compiles, allocates
        call()
    taken = [{name: seconds(call) for name, call in calls.items()} for _ in range(runs)]
    return {name: of(times[name] for times in taken) for name in calls}


def cuda_ways() -> dict[str, Callable]:
    """The scans that run on this machine's GPU."""
    from mobilevideogpt.model.kernels.scan_triton import triton_scan

    ways = {"triton": triton_scan, "plain": both_ways(plain_scan)}
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        print(f"mamba_ssm: not importable here ({error})")
    else:
        ways["mamba_ssm"] = both_ways(
            lambda u, delta, A, B, C, D, z, delta_bias: selective_scan_fn(
                u, delta, A, B, C, D, z, delta_bias, delta_softplus=True
            )
        )
    return ways


def on_cuda(runs: int) -> None:
    """Print the tables of a CUDA device."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; medians of {runs} runs")
    ways = cuda_ways()
    bandwidth = copy_bandwidth(runs)
    print(f"copy bandwidth {bandwidth / 1e9:.0f} GB/s, read and written bytes together\n")
    encoder = random_encoder().cuda()
    print(f"{'encoder, ms a clip':20} {'batch':>5} " + " ".join(f"{way:>10}" for way in ways) + "  plain / triton")
    for dtype in (torch.float32, torch.bfloat16):
        encoder = encoder.to(dtype)
        for batch in (1, 8):
            clips = random_clips(batch).cuda()
            times = measure(cuda_seconds, {way: with_scan(encoder, clips, scan) for way, scan in ways.items()}, runs)
            cells = " ".join(f"{times[way] / batch * 1000:10.2f}" for way in ways)
            print(f"{dtype!s:20} {batch:5} {cells} {times['plain'] / times['triton']:15.1f}", flush=True)
    print(f"\n{'scan, ms at batch 8':20} {'traffic':>8} " + " ".join(f"{way:>10} ratio" for way in ways))
    for dtype in (torch.float32, torch.bfloat16):
        tensors = scan_inputs(encoder.to(dtype), random_clips(8).cuda())
        u, delta, _, B, C, _, z, _ = tensors
        moved = sum(t.nbytes for t in (u, delta, B, C, z, u))  # y is as large as u
        traffic = moved / bandwidth
        times = measure(cuda_seconds, {way: partial(scan, *tensors) for way, scan in ways.items()}, runs)
        cells = " ".join(f"{times[way] * 1000:10.3f} {times[way] / traffic:5.1f}" for way in ways)
        print(f"{dtype!s:20} {traffic * 1000:8.3f} {cells}", flush=True)


def matrix_products(encoder: videomamba.VideoMamba, clips: Tensor) -> Callable[[], None]:
    """The encoder's linear layers alone, each on random numbers of its shape."""
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
    """Print the tables of the CPU."""
    name = platform.processor() or platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}")
    encoder, clips = random_encoder(), random_clips(1)
    tensors = scan_inputs(encoder, clips)
    scans = {"ours": selective_scan, "loop": step_loop_scan}
    alone = {way: partial(scan, *tensors) for way, scan in scans.items()}
    whole = {way: with_scan(encoder, clips, scan) for way, scan in scans.items()}
    whole["products"] = matrix_products(encoder, clips)
    print(f"one clip, float32; median (least) seconds of {runs} runs, of the scan alone {5 * runs}")
    for what, calls, count in (("scan, one layer and direction", alone, 5 * runs), ("encoder", whole, runs)):
        taken = measure(cpu_seconds, calls, count, of=sorted)
        median = {way: statistics.median(seconds) for way, seconds in taken.items()}
        cells = ", ".join(f"{way} {median[way]:.4f} ({taken[way][0]:.4f})" for way in calls)
        ratios = median["loop"] / median["ours"], taken["loop"][0] / taken["ours"][0]
        print("{}: {}; loop / ours {:.2f} ({:.2f})".format(what, cells, *ratios), flush=True)


def main() -> None:
    """Parse the command line and measure what this machine has."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with torch.inference_mode():
        (on_cuda if torch.cuda.is_available() else on_cpu)(options.runs)


if __name__ == "__main__":
    main()
