"""The operations of `decoder_torch` as Triton kernels for half precision.

Each kernel draws the dropout masks again from seeds, so no mask is written, read or kept. Eight columns of a row share
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
PLAIN, NORM, SWIGLU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what the input of a group is computed from


@triton.jit
def _numbers(seed, t, column, columns, COLUMNS: tl.constexpr):
    """Draw a number of 32 bits for each pair of columns of ``(T, COLUMNS)``, from column ``column`` on."""
    shares: tl.constexpr = COLUMNS // SHARE
    counter = t[:, None] * tl.cdiv(columns, SHARE) + column // SHARE + tl.arange(0, shares)[None, :]
    a, b, c, d = tl.randint4x(seed, counter, ROUNDS)
    return tl.join(tl.join(a, b), tl.join(c, d))  # (T, shares, 2, 2)


@triton.jit
def _mixed(numbers):
    """Return other numbers, by MurmurHash3's bijection of 32 bits: those of the next layer, far cheaper than Philox."""
    numbers = numbers.to(tl.uint32, bitcast=True)
    numbers = (numbers ^ (numbers >> 16)) * 0x85EBCA6B
    numbers = (numbers ^ (numbers >> 13)) * 0xC2B2AE35
    return numbers ^ (numbers >> 16)


@triton.jit
def _kept(numbers, drop_below, COLUMNS: tl.constexpr):
    """Mask of the kept elements, ``(T, COLUMNS)``; a half of a number decides on an element."""
    halves = tl.join(numbers & 0xFFFF, (numbers >> 16) & 0xFFFF)
    return tl.reshape(halves, (numbers.shape[0], COLUMNS)) >= drop_below


@triton.jit
def _inputs_kernel(
    x, more, weight, a, seeds, residual, rstd, out, middles,
    eps, drop_below, scale, tokens, width, out_width,
    KIND: tl.constexpr, ADDS: tl.constexpr, N: tl.constexpr, RANKS: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    """For a tile of tokens: write the input of a group of layers and beside it its products with each A."""
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    row, in_t = t.to(tl.int64)[:, None], (t < tokens)[:, None]
    rank, k = tl.arange(0, RANKS), tl.arange(0, COLUMNS)
    dtype = out.dtype.element_ty
    factor = tl.zeros((TOKENS,), dtype=tl.float32)
    if KIND == NORM:
        for column in range(0, width, COLUMNS):
            inside = in_t & (column + k < width)[None, :]
            value = tl.load(x + row * width + column + k[None, :], mask=inside, other=0.0).to(tl.float32)
            if ADDS:
                value += tl.load(more + row * width + column + k[None, :], mask=inside, other=0.0).to(tl.float32)
                value = value.to(dtype)
                tl.store(residual + row * width + column + k[None, :], value, mask=inside)
                value = value.to(tl.float32)
            factor += tl.sum(value * value, axis=1)
        factor = tl.rsqrt(factor / width + eps)
        tl.store(rstd + t, factor, mask=t < tokens)
    total0 = tl.zeros((TOKENS, RANKS), dtype=tl.float32)
    total1 = tl.zeros((TOKENS, RANKS), dtype=tl.float32)
    total2 = tl.zeros((TOKENS, RANKS), dtype=tl.float32)
    if DROPS:
        seed = tl.load(seeds)
    for column in range(0, width, COLUMNS):
        in_k = column + k < width
        inside = in_t & in_k[None, :]
        if KIND == SWIGLU:
            gate = tl.load(x + row * (2 * width) + column + k[None, :], mask=inside, other=0.0).to(tl.float32)
            up = tl.load(x + row * (2 * width) + width + column + k[None, :], mask=inside, other=0.0)
            value = ((gate * tl.sigmoid(gate)).to(dtype).to(tl.float32) * up.to(tl.float32)).to(dtype)
        else:
            value = tl.load(x + row * width + column + k[None, :], mask=inside, other=0.0)
            if ADDS:
                other = tl.load(more + row * width + column + k[None, :], mask=inside, other=0.0).to(tl.float32)
                value = (value.to(tl.float32) + other).to(dtype)
            if KIND == NORM:
                scales = tl.load(weight + column + k, mask=in_k, other=0.0).to(tl.float32)
                value = (value.to(tl.float32) * factor[:, None] * scales[None, :]).to(dtype)
        tl.store(out + row * out_width + column + k[None, :], value, mask=inside)
        of_a = rank[None, :] * width + column + k[:, None]
        kept = value
        if DROPS:
            numbers = _numbers(seed, t, column, width, COLUMNS)
        if N > 0:
            if DROPS:
                kept = tl.where(_kept(numbers, drop_below, COLUMNS), value, 0.0)
            total0 = tl.dot(kept, tl.load(a + of_a, mask=in_k[:, None], other=0.0), total0)
        if N > 1:
            if DROPS:
                numbers = _mixed(numbers)
                kept = tl.where(_kept(numbers, drop_below, COLUMNS), value, 0.0)
            total1 = tl.dot(kept, tl.load(a + RANKS * width + of_a, mask=in_k[:, None], other=0.0), total1)
        if N > 2:
            if DROPS:
                numbers = _mixed(numbers)
                kept = tl.where(_kept(numbers, drop_below, COLUMNS), value, 0.0)
            total2 = tl.dot(kept, tl.load(a + 2 * RANKS * width + of_a, mask=in_k[:, None], other=0.0), total2)
    beside, alone = out + row * out_width + width + rank[None, :], middles + row * (N * RANKS) + rank[None, :]
    if N > 0:
        total0 = (total0 * scale).to(dtype)
        tl.store(beside, total0, mask=in_t)
        tl.store(alone, total0, mask=in_t)
    if N > 1:
        total1 = (total1 * scale).to(dtype)
        tl.store(beside + RANKS, total1, mask=in_t)
        tl.store(alone + RANKS, total1, mask=in_t)
    if N > 2:
        total2 = (total2 * scale).to(dtype)
        tl.store(beside + 2 * RANKS, total2, mask=in_t)
        tl.store(alone + 2 * RANKS, total2, mask=in_t)


@triton.jit
def _add_gradient(g, total, value, up, dmiddle, scale, numbers, drop_below, COLUMNS: tl.constexpr, DROPS: tl.constexpr):
    """Add an adapter's part to the gradient of its input and to that of its A."""
    through = tl.dot(dmiddle, up) * scale
    if DROPS:
        kept = _kept(numbers, drop_below, COLUMNS)
        through, value = tl.where(kept, through, 0.0), tl.where(kept, value, 0.0)
    return g + through, tl.dot(tl.trans(dmiddle), value, total)


@triton.jit
def _gradients_kernel(
    x, weight, rstd, a, seeds, dcat, dx, da,
    drop_below, scale, tokens, width, cat_width, dx_width, tiles,
    KIND: tl.constexpr, N: tl.constexpr, RANKS: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, DROPS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """For a block of columns and ``tiles`` tiles of tokens: write ``dx``, and a partial sum of ``da``."""
    column = tl.program_id(0) * COLUMNS
    k = column + tl.arange(0, COLUMNS)
    rank, in_k = tl.arange(0, RANKS), k < width
    of_a = rank[:, None] * width + k[None, :]
    dtype = dx.dtype.element_ty
    total0 = tl.zeros((RANKS, COLUMNS), dtype=tl.float32)
    total1 = tl.zeros((RANKS, COLUMNS), dtype=tl.float32)
    total2 = tl.zeros((RANKS, COLUMNS), dtype=tl.float32)
    if DROPS:
        seed = tl.load(seeds)
    if N > 0:
        up0 = tl.load(a + of_a, mask=in_k[None, :], other=0.0)
    if N > 1:
        up1 = tl.load(a + RANKS * width + of_a, mask=in_k[None, :], other=0.0)
    if N > 2:
        up2 = tl.load(a + 2 * RANKS * width + of_a, mask=in_k[None, :], other=0.0)
    if KIND == NORM:
        scales = tl.load(weight + k, mask=in_k, other=0.0).to(tl.float32)
    for tile in tl.range(0, tiles, num_stages=STAGES):
        t = (tl.program_id(1) * tiles + tile) * TOKENS + tl.arange(0, TOKENS)
        row, in_t = t.to(tl.int64)[:, None], (t < tokens)[:, None]
        inside = in_t & in_k[None, :]
        g = tl.load(dcat + row * cat_width + k[None, :], mask=inside, other=0.0).to(tl.float32)
        if KIND == SWIGLU:
            gate = tl.load(x + row * (2 * width) + k[None, :], mask=inside, other=0.0).to(tl.float32)
            up = tl.load(x + row * (2 * width) + width + k[None, :], mask=inside, other=0.0).to(tl.float32)
            value = ((gate * tl.sigmoid(gate)).to(dtype).to(tl.float32) * up).to(dtype)
        else:
            value = tl.load(x + row * width + k[None, :], mask=inside, other=0.0)
            if KIND == NORM:
                factor = tl.load(rstd + t, mask=t < tokens, other=0.0)
                value = (value.to(tl.float32) * factor[:, None] * scales[None, :]).to(dtype)
        of_middle = dcat + row * cat_width + width + rank[None, :]
        numbers = 0
        if DROPS:
            numbers = _numbers(seed, t, column, width, COLUMNS)
        if N > 0:
            dmiddle = tl.load(of_middle, mask=in_t, other=0.0)
            g, total0 = _add_gradient(g, total0, value, up0, dmiddle, scale, numbers, drop_below, COLUMNS, DROPS)
        if N > 1:
            if DROPS:
                numbers = _mixed(numbers)
            dmiddle = tl.load(of_middle + RANKS, mask=in_t, other=0.0)
            g, total1 = _add_gradient(g, total1, value, up1, dmiddle, scale, numbers, drop_below, COLUMNS, DROPS)
        if N > 2:
            if DROPS:
                numbers = _mixed(numbers)
            dmiddle = tl.load(of_middle + 2 * RANKS, mask=in_t, other=0.0)
            g, total2 = _add_gradient(g, total2, value, up2, dmiddle, scale, numbers, drop_below, COLUMNS, DROPS)
        if KIND == SWIGLU:
            g = g.to(dtype).to(tl.float32)
            sigmoid = tl.sigmoid(gate)
            silu = gate * sigmoid
            dgate = g * up * (silu * (1 - sigmoid) + sigmoid)
            tl.store(dx + row * dx_width + k[None, :], dgate.to(dtype), mask=inside)
            tl.store(dx + row * dx_width + width + k[None, :], (g * silu).to(dtype), mask=inside)
        else:
            tl.store(dx + row * dx_width + k[None, :], g.to(dtype), mask=inside)
    part = da + tl.program_id(1).to(tl.int64) * N * RANKS * width + of_a
    if N > 0:
        tl.store(part, total0 * scale, mask=in_k[None, :])
    if N > 1:
        tl.store(part + RANKS * width, total1 * scale, mask=in_k[None, :])
    if N > 2:
        tl.store(part + 2 * RANKS * width, total2 * scale, mask=in_k[None, :])


@triton.jit
def _norm_gradient_kernel(
    dnorm, residual, weight, rstd, dresidual, dx, width, dnorm_width, ADDS: tl.constexpr, COLUMNS: tl.constexpr
):
    """For a token: the gradient of the input of a norm, and that of the stream beside it."""
    t, k = tl.program_id(0).to(tl.int64), tl.arange(0, COLUMNS)
    inside = k < width
    factor = tl.load(rstd + t)
    scaled = tl.load(residual + t * width + k, mask=inside, other=0.0).to(tl.float32) * factor
    g = tl.load(dnorm + t * dnorm_width + k, mask=inside, other=0.0).to(tl.float32)
    g *= tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
    g = factor * (g - scaled * (tl.sum(g * scaled) / width))
    if ADDS:
        g += tl.load(dresidual + t * width + k, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx + t * width + k, g.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_kernel(
    x, y, cos, sin, length, heads, half, x_b, x_h, x_l, y_b, y_h, y_l, cos_b, cos_l,
    SIGN: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Rotate the heads of a token by its position, back for `SIGN` -1, or copy them for 0."""
    clip, place = tl.program_id(1).to(tl.int64), tl.program_id(0).to(tl.int64)
    head, k = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (k < half)
    x += clip * x_b + place * x_l + head * x_h + k
    y += clip * y_b + place * y_l + head * y_h + k
    first = tl.load(x, mask=inside, other=0.0)
    second = tl.load(x + half, mask=inside, other=0.0)
    if SIGN != 0:
        at = clip * cos_b + place * cos_l + k
        c = tl.load(cos + at, mask=k < half, other=0.0).to(tl.float32)
        s = tl.load(sin + at, mask=k < half, other=0.0).to(tl.float32) * SIGN
        first, second = first.to(tl.float32), second.to(tl.float32)
        first, second = first * c - second * s, second * c + first * s
    tl.store(y, first.to(y.dtype.element_ty), mask=inside)
    tl.store(y + half, second.to(y.dtype.element_ty), mask=inside)


def _drop_below(p: float) -> tuple[int, float]:
    """Return the 16-bit number below which an element is dropped, and the share of elements that is kept."""
    steps = min(round(p * STEPS), STEPS - 1)
    return steps, 1 - steps / STEPS


def _input_tiles(rank: int, device: torch.device) -> tuple[int, int, int, int]:
    """Return tokens and columns of a tile, warps and stages of `_inputs_kernel`.

    They fit the shared memory of a GeForce, or that of a data centre's GPU (`benchmarks/gpu_generations.py`).
    """
    return 16, 64 if rank <= 64 else 32, 4, 3 if rank <= 64 and _has_large_tiles(device) else 2


def _gradient_tiles(kind: tl.constexpr, rank: int, device: torch.device) -> tuple[int, int, int, int, int]:
    """Return tokens and columns of a tile, programs a multiprocessor, warps and stages of `_gradients_kernel`.

    Fastest on an H200: many small programs, and reads ahead, hide the latency of memory. They fit a GeForce, too.
    """
    if rank > 64:
        return 64, 32, 2, 8, 2
    if kind is SWIGLU:
        return 16, 128, 8, 4, 3
    return 64, 32, 4, 4, 3 if _has_large_tiles(device) else 2


def _has_large_tiles(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) in ((9, 0), (10, 0))


def _inputs(x: Tensor, width: int, group, kind, more=None, weight=None, eps=0.0):
    tokens, n, rank = len(x), len(group.rows) if group else 0, group.rank if group else 16
    out = torch.empty(tokens, width + n * rank, dtype=x.dtype, device=x.device)
    middles = torch.empty(tokens, n * rank, dtype=x.dtype, device=x.device)
    residual = x if more is None else torch.empty_like(x)
    rstd = torch.empty(tokens if kind is NORM else 0, dtype=torch.float32, device=x.device)
    steps, kept = _drop_below(group.p if group else 0.0)
    tile, columns, warps, stages = _input_tiles(rank, x.device)
    with torch.cuda.device(x.device):
        _inputs_kernel[(triton.cdiv(tokens, tile),)](
            x, more, weight, group and group.a, group and group.seeds, residual, rstd, out, middles,
            eps, steps, group.scaling / kept if group else 1.0, tokens, width, out.shape[1],
            KIND=kind, ADDS=more is not None, N=n, RANKS=rank, TOKENS=tile,
            COLUMNS=columns, DROPS=steps > 0, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return residual, rstd, out, middles


def _gradients(x: Tensor, width: int, group, dcat: Tensor, dx: Tensor, kind, weight=None, rstd=None) -> Tensor:
    """Return the gradients of the factors A, ``(n rank, width)`` float32, summed in the same order each time."""
    tokens, n, rank = len(x), len(group.rows) if group else 0, group.rank if group else 16
    tile, columns, programs, warps, stages = _gradient_tiles(kind, rank, x.device)
    blocks, tiles = triton.cdiv(width, columns), triton.cdiv(tokens, tile)
    tiles_each = triton.cdiv(tiles * blocks, programs * multiprocessors(x.device))
    parts = triton.cdiv(tiles, tiles_each)
    da = torch.empty(parts, n * rank, width, dtype=torch.float32, device=x.device)
    steps, kept = _drop_below(group.p if group else 0.0)
    with torch.cuda.device(x.device):
        _gradients_kernel[(blocks, parts)](
            x, weight, rstd, group and group.a, group and group.seeds, dcat, dx, da,
            steps, group.scaling / kept if group else 1.0, tokens, width, dcat.stride(0), dx.stride(0), tiles_each,
            KIND=kind, N=n, RANKS=rank, TOKENS=tile, COLUMNS=columns, DROPS=steps > 0, STAGES=stages,
            num_warps=warps,
        )  # fmt: skip
    return da.sum(0) if parts > 1 else da[0]


def plain_inputs(x: Tensor, group) -> tuple[Tensor, Tensor, None]:
    """See `decoder_torch.plain_inputs`; without masks, which are drawn again."""
    return *_inputs(x, x.shape[1], group, PLAIN)[2:], None


def norm_inputs(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, group):
    """See `decoder_torch.norm_inputs`."""
    return *_inputs(x, x.shape[1], group, NORM, delta, weight, eps), None


def swiglu_inputs(gate_up: Tensor, group) -> tuple[Tensor, Tensor, None]:
    """See `decoder_torch.swiglu_inputs`."""
    return *_inputs(gate_up, gate_up.shape[1] // 2, group, SWIGLU)[2:], None


def plain_gradients(x: Tensor, group, dcat: Tensor, masks: None) -> tuple[Tensor, Tensor]:
    """See `decoder_torch.plain_gradients`."""
    dx = torch.empty_like(x)
    return dx, _gradients(x, x.shape[1], group, dcat, dx, PLAIN)


def norm_gradients(
    residual: Tensor, rstd: Tensor, weight: Tensor, group, dcat: Tensor, dresidual: Tensor | None, masks: None
) -> tuple[Tensor, Tensor | None]:
    """See `decoder_torch.norm_gradients`; changes ``dcat``."""
    width = residual.shape[1]
    da = _gradients(residual, width, group, dcat, dcat, NORM, weight, rstd) if group else None
    dx = torch.empty_like(residual)
    with torch.cuda.device(residual.device):
        _norm_gradient_kernel[(len(residual),)](
            dcat, residual, weight, rstd, dresidual, dx, width, dcat.stride(0),
            ADDS=dresidual is not None, COLUMNS=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
    return dx, da


def swiglu_gradients(gate_up: Tensor, group, dcat: Tensor, masks: None) -> tuple[Tensor, Tensor]:
    """See `decoder_torch.swiglu_gradients`."""
    dgate_up = torch.empty_like(gate_up)
    return dgate_up, _gradients(gate_up, gate_up.shape[1] // 2, group, dcat, dgate_up, SWIGLU)


def rotate(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, sign: int) -> None:
    """See `decoder_torch.rotate`."""
    clips, heads, length, width = x.shape
    with torch.cuda.device(x.device):
        _rotate_kernel[(length, clips)](
            x, y, cos, sin, length, heads, width // 2, *x.stride()[:3], *y.stride()[:3],
            cos.stride(0) if len(cos) > 1 else 0, cos.stride(1),
            SIGN=sign, HEADS=triton.next_power_of_2(heads), HALF=triton.next_power_of_2(width // 2), num_warps=2,
        )  # fmt: skip
