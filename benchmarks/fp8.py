"""What the frozen products of a training step would take in FP8, beside bfloat16, on one GPU (Ada or newer).

    python benchmarks/fp8.py [--clips 4]

Times the products of a decoder layer with its frozen weights, forward and backward, for a batch of clips, with
operands in bfloat16, in float8_e4m3 with a scale for each row, and the latter with the quantisation of activations and
gradients, which a step has to do, too: weights are quantised once. Prints both sides, the errors, and the share of a
measured step that would be saved.
"""

import argparse
import sys

import torch
import triton
import triton.language as tl
from triton.testing import do_bench

TOKENS = 2402 + 60  # of a clip
LAYERS = 24
PRODUCTS = {"qkv": (896, 1152), "output": (896, 896), "gate and up": (896, 9728), "down": (4864, 896)}  # from, to
LARGEST = torch.finfo(torch.float8_e4m3fn).max


@triton.jit
def _quantise(values, quantised, scales, columns, LARGEST: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    found = tl.load(values + row * columns + at, at < columns, 0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(found)), 1e-12) / LARGEST
    tl.store(quantised + row * columns + at, (found / scale).to(tl.float8e4nv), at < columns)
    tl.store(scales + row, scale)


def quantise(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``values`` ``(rows, columns)`` in float8_e4m3, and the scale ``(rows, 1)`` of each row."""
    rows, columns = values.shape
    quantised = torch.empty_like(values, dtype=torch.float8_e4m3fn)
    scales = torch.empty(rows, 1, device=values.device)
    _quantise[(rows,)](values, quantised, scales, columns, LARGEST, triton.next_power_of_2(columns), num_warps=8)
    return quantised, scales


def product(given, weight) -> torch.Tensor:
    """Return ``given @ weight.T`` in bfloat16, of pairs that `quantise` returns."""
    (a, a_scale), (b, b_scale) = given, weight
    return torch._scaled_mm(a, b.T, a_scale, b_scale.T, out_dtype=torch.bfloat16, use_fast_accum=True)


def times_and_error(inner: int, outer: int, rows: int) -> tuple[list[float], float]:
    """Return the milliseconds of a product in bfloat16, in FP8, and in FP8 with quantising, and the error of FP8."""
    given = torch.randn(rows, inner, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(outer, inner, device="cuda", dtype=torch.bfloat16) * inner**-0.5
    weight8, given8 = quantise(weight), quantise(given)
    expected = given @ weight.T
    off = (product(given8, weight8).float() - expected.float()).norm() / expected.float().norm()
    ways = (
        lambda: given @ weight.T,
        lambda: product(given8, weight8),
        lambda: product(quantise(given), weight8),
    )
    return [do_bench(way) for way in ways], off.item()


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=4, help="in a batch")
    parser.add_argument("--step", type=float, help="milliseconds of a whole step with that batch, for the share")
    options = parser.parse_args()
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9):
        sys.exit("FP8 needs a GPU of compute capability 8.9 or newer")
    torch.manual_seed(0)
    rows = options.clips * TOKENS
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {rows} tokens, ms of a layer")
    print(f"{'product':22} {'bf16':>7} {'fp8':>7} {'fp8 + quantising':>17} {'error':>7}")
    sums = [0.0, 0.0, 0.0]
    for name, (columns, outputs) in PRODUCTS.items():
        for way, inner, outer in (("forward", columns, outputs), ("backward", outputs, columns)):
            times, off = times_and_error(inner, outer, rows)
            sums = [total + time for total, time in zip(sums, times, strict=True)]
            print(f"{name:13}{way:9} {times[0]:7.3f} {times[1]:7.3f} {times[2]:17.3f} {off:7.2%}")
    print(f"{'sum':22} {sums[0]:7.3f} {sums[1]:7.3f} {sums[2]:17.3f}")
    saved = LAYERS * (sums[0] - sums[2])
    of_step = f", {saved / options.step:.1%} of a step of {options.step:g} ms" if options.step else ""
    print(f"saved in {LAYERS} layers: {saved:.1f} ms{of_step}")


if __name__ == "__main__":
    main()
