"""LoRA's product with A and its gradients, with dropout inside the products, as Triton kernels for half precision.

Each kernel draws the dropout mask again from a seed, so no mask is written, read or kept. Eight columns of a row share
a counter of Philox; each of its four numbers gives two halves of 16 bits.
"""

# Triton is absent on a machine without a GPU, and a kernel is launched as kernel[grid](...).
# pyright: reportMissingImports=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from mobilevideogpt.model.kernels.gpu import multiprocessors

SHARE = tl.constexpr(8)  # columns that share a counter
ROUNDS = tl.constexpr(7)  # of Philox, the fewest that pass BigCrush (Salmon et al., 2011)
STEPS = 2**16  # values of a half, and so steps of the probability


@triton.jit
def _kept(seed, t, column, columns, COLUMNS: tl.constexpr, drop_below):
    """Mask of the kept elements, ``(T, COLUMNS)``, from column ``column`` on, a multiple of `COLUMNS`."""
    shares: tl.constexpr = COLUMNS // SHARE
    counter = t[:, None] * tl.cdiv(columns, SHARE) + column // SHARE + tl.arange(0, shares)[None, :]
    a, b, c, d = tl.randint4x(seed, counter, ROUNDS)
    numbers = tl.join(tl.join(a, b), tl.join(c, d))  # (T, shares, 2, 2)
    halves = tl.join(numbers & 0xFFFF, (numbers >> 16) & 0xFFFF)
    return tl.reshape(halves, (t.shape[0], COLUMNS)) >= drop_below


@triton.jit
def _down_kernel(
    x, a, seed, y, drop_below, scale, tokens, width, ranks,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANKS: tl.constexpr,
):  # fmt: skip
    seed = tl.load(seed)
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    rank, k = tl.arange(0, RANKS), tl.arange(0, COLUMNS)
    x += t.to(tl.int64)[:, None] * width + k[None, :]
    a += rank[None, :] * width + k[:, None]
    total = tl.zeros((TOKENS, RANKS), dtype=tl.float32)
    for column in range(0, width, COLUMNS):
        inside = column + k < width
        tile = tl.load(x + column, mask=(t < tokens)[:, None] & inside[None, :], other=0.0)
        tile = tl.where(_kept(seed, t, column, width, COLUMNS, drop_below), tile, 0.0)
        total = tl.dot(tile, tl.load(a + column, mask=inside[:, None] & (rank < ranks)[None, :], other=0.0), total)
    inside = (t < tokens)[:, None] & (rank < ranks)[None, :]
    tl.store(y + t.to(tl.int64)[:, None] * ranks + rank[None, :], (total * scale).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_kernel(
    x, a, seed, dmiddle, dx, da, drop_below, scale, tokens, width, ranks, tiles,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANKS: tl.constexpr, WITH_DX: tl.constexpr,
):  # fmt: skip
    """For a block of columns and ``tiles`` tiles of tokens: add to ``dx``, and write a partial sum of ``da``."""
    seed = tl.load(seed)
    column = tl.program_id(0) * COLUMNS
    k = column + tl.arange(0, COLUMNS)
    rank = tl.arange(0, RANKS)
    of_a = rank[:, None] * width + k[None, :]
    in_a = (rank < ranks)[:, None] & (k < width)[None, :]
    up = tl.load(a + of_a, mask=in_a, other=0.0)
    total = tl.zeros((RANKS, COLUMNS), dtype=tl.float32)
    for tile in range(tiles):
        t = (tl.program_id(1) * tiles + tile) * TOKENS + tl.arange(0, TOKENS)
        offset = t.to(tl.int64)[:, None] * width + k[None, :]
        inside = (t < tokens)[:, None] & (k < width)[None, :]
        value = tl.load(x + offset, mask=inside, other=0.0)
        of_middle = t.to(tl.int64)[:, None] * ranks + rank[None, :]
        middle = tl.load(dmiddle + of_middle, mask=(t < tokens)[:, None] & (rank < ranks)[None, :], other=0.0)
        kept = _kept(seed, t, column, width, COLUMNS, drop_below)
        if WITH_DX:
            before = tl.load(dx + offset, mask=inside, other=0.0).to(tl.float32)
            through = before + tl.where(kept, tl.dot(middle, up) * scale, 0.0)
            tl.store(dx + offset, through.to(dx.dtype.element_ty), mask=inside)
        total = tl.dot(tl.trans(middle), tl.where(kept, value, 0.0), total)
    tl.store(da + tl.program_id(1).to(tl.int64) * ranks * width + of_a, total * scale, mask=in_a)


def _drop_below(p: float) -> tuple[int, float]:
    """Return the 16-bit number below which an element is dropped, and the share of elements that is kept."""
    steps = min(round(p * STEPS), STEPS - 1)
    return steps, 1 - steps / STEPS


def down(x: Tensor, a: Tensor, seed: Tensor, p: float, scale: float) -> Tensor:
    """Compute ``scale dropout(x) a'``, summed in float32.

    Args:
        x: ``(T, K)``, contiguous, float16 or bfloat16.
        a: ``(R, K)``, contiguous, float16 or bfloat16.
        seed: int64, ``(1,)``, on the same device.
        p: Probability that an element is dropped, in steps of 2**-16; below 1.

    Returns:
        ``(T, R)`` in the dtype of ``x``.
    """
    (tokens, width), ranks = x.shape, len(a)
    y = torch.empty(tokens, ranks, dtype=x.dtype, device=x.device)
    steps, kept = _drop_below(p)
    padded = max(16, triton.next_power_of_2(ranks))
    with torch.cuda.device(x.device):
        _down_kernel[(triton.cdiv(tokens, 16),)](
            x, a, seed, y, steps, scale / kept, tokens, width, ranks,
            TOKENS=16, COLUMNS=128 if padded <= 64 else 64, RANKS=padded, num_warps=4, num_stages=3,
        )  # fmt: skip
    return y


def add_gradients(
    x: Tensor, a: Tensor, seed: Tensor, p: float, scale: float, dmiddle: Tensor, dx: Tensor | None
) -> Tensor:
    """Return the gradient of ``a`` in `down`, and add the gradient of ``x`` to ``dx``.

    Args:
        x: See `down`, as ``a``, ``seed``, ``p`` and ``scale``.
        dmiddle: Gradient of the result of `down`, ``(T, R)``.
        dx: ``(T, K)``, changed in place; None if ``x`` needs no gradient.

    Returns:
        float32, ``(R, K)``, summed in the same order each time.
    """
    (tokens, width), ranks = x.shape, len(a)
    padded = max(16, triton.next_power_of_2(ranks))
    # The fastest settings on an H100. A GeForce lacks the registers for the wide tile.
    many_registers = torch.cuda.get_device_capability(x.device)[0] in (9, 10)
    columns, programs, stages = (128, 4, 2) if many_registers and width >= 2048 and padded <= 64 else (64, 2, 3)
    blocks, tiles = triton.cdiv(width, columns), triton.cdiv(tokens, 64)
    tiles_each = triton.cdiv(tiles * blocks, programs * multiprocessors(x.device))
    parts = triton.cdiv(tiles, tiles_each)
    da = torch.empty(parts, ranks, width, dtype=torch.float32, device=x.device)
    steps, kept = _drop_below(p)
    with torch.cuda.device(x.device):
        _gradient_kernel[(blocks, parts)](
            x, a, seed, dmiddle, x if dx is None else dx, da, steps, scale / kept, tokens, width, ranks, tiles_each,
            TOKENS=64, COLUMNS=columns, RANKS=padded, WITH_DX=dx is not None,
            num_warps=4, num_stages=stages,
        )  # fmt: skip
    return da.sum(0)
