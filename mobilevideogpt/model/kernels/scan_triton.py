"""The selective scan as a Triton kernel, for CUDA devices without `mamba_ssm`; forward only. Needs Triton.

A warp scans the sequence of a few channels, one tile of tokens at a time. It first computes the inputs of the
recurrence for all tokens of the tile in parallel, then the states, in registers. It issues the loads of a tile one tile
ahead, because its scheduler has too few other warps to hide the latency of memory. The bottleneck is not memory but a
multiprocessor's load and store unit, so warps of neighbouring channels load together.
"""

# Triton is absent on a machine without a GPU, and a kernel is launched as kernel[grid](...).
# pyright: reportMissingImports=false, reportIndexIssue=false, reportRedeclaration=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from mobilevideogpt.model.kernels.gpu import multiprocessors

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _exp2(x):
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _log2(x):
    return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _reciprocal(x):
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _widen(x):
    """Cast ``x`` to float32; after a plain cast Triton delays later code behind the next exchange between threads."""
    if x.dtype == tl.bfloat16:
        asm: tl.constexpr = "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;"
        return tl.inline_asm_elementwise(asm, "=r,=r,r", [x], dtype=tl.float32, is_pure=True, pack=2)
    elif x.dtype == tl.float16:
        asm: tl.constexpr = "{.reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b;}"
        return tl.inline_asm_elementwise(asm, "=f,=f,r", [x], dtype=tl.float32, is_pure=True, pack=2)
    return x.to(tl.float32)


@triton.jit
def _widen_each(x):
    """`_widen` for half precision where the two numbers in a register are not adjacent in ``x``."""
    if x.dtype == tl.bfloat16:
        asm: tl.constexpr = "{.reg .b16 zero; mov.b16 zero, 0; mov.b32 $0, {zero, $1};}"
        return tl.inline_asm_elementwise(asm, "=r,h", [x], dtype=tl.float32, is_pure=True, pack=1)
    return tl.inline_asm_elementwise("cvt.f32.f16 $0, $1;", "=f,h", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _softplus(x, TO_1E7: tl.constexpr):
    """Compute ``max(x, 0) + log(1 + e)``, ``e = exp(-|x|)``.

    The logarithm is ``2 atanh(e / (2 + e))`` by its series, or the GPU's own if an error of 1e-7 is acceptable.
    """
    e = _exp2(tl.abs(x) * -LOG2E)
    if TO_1E7:
        return tl.maximum(x, 0.0) + _log2(1.0 + e) / LOG2E
    r = e * _reciprocal(2.0 + e)  # at most 1/3
    square = r * r
    series = 2.0 / 13 + square * (2.0 / 15)
    series = 2.0 / 11 + square * series
    series = 2.0 / 9 + square * series
    series = 2.0 / 7 + square * series
    series = 2.0 / 5 + square * series
    series = 2.0 / 3 + square * series
    return tl.maximum(x, 0.0) + r * (2.0 + square * series)


@triton.jit
def _compose(keep, add, next_keep, next_add):
    """Compose two steps ``s -> keep s + add`` of the recurrence."""
    return keep * next_keep, next_keep * add + next_add


@triton.jit
def _load_states(start, offsets, in_n, VECTOR: tl.constexpr, ALL: tl.constexpr):
    """Load states as ``(LOW, TOKENS, HIGH)``, ``VECTOR`` states of a token at once."""
    at = start + offsets
    if VECTOR > 1:
        at = tl.max_contiguous(at, (1, 1, VECTOR))
        at = tl.multiple_of(at, (1, 1, VECTOR * at.dtype.element_ty.primitive_bitwidth // 8))
    if ALL:
        return tl.load(at)
    return tl.load(at, mask=in_n, other=0.0)


@triton.jit
def _by_token(x):
    """Reshape ``(LOW, TOKENS, HIGH)`` to ``(TOKENS, STATES)``."""
    return tl.reshape(tl.permute(x, (1, 2, 0)), (x.shape[1], x.shape[0] * x.shape[2]))


@triton.jit
def _add_pairs(x):
    """Halve the last of three dimensions; unlike after a sum, each thread keeps only its part of the result."""
    even, odd = tl.split(tl.reshape(x, (x.shape[0], x.shape[1], x.shape[2] // 2, 2)))
    return even + odd


@triton.jit
def _scan_kernel(
    u, delta, A, B, C, D, z, delta_bias, y,
    width, length,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, B_b, B_n, B_l, C_b, C_n, C_l, z_b, z_d, z_l, y_b, y_d, y_l,
    N: tl.constexpr, STATES: tl.constexpr, LOW: tl.constexpr, CHANNELS: tl.constexpr, TOKENS: tl.constexpr,
    ROW: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    # States form LOW groups of HIGH neighbours: a thread loads one group of a token, and keeps one group of a channel.
    HIGH: tl.constexpr = STATES // LOW
    ALL: tl.constexpr = N == STATES
    HALF: tl.constexpr = u.dtype.element_ty != tl.float32
    clip = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    n = n % LOW * HIGH + n // LOW
    t = tl.arange(0, TOKENS)
    in_d, in_n = d < width, n < N
    a = LOG2E * tl.load(A + d[None, :] * N + n[:, None], mask=in_n[:, None] & in_d[None, :], other=0.0)
    d = tl.max_contiguous(tl.multiple_of(tl.where(in_d, d, 0), ROW), ROW)
    skip, bias = tl.load(D + d), tl.load(delta_bias + d)
    n = tl.arange(0, LOW)[:, None, None] * HIGH + tl.arange(0, HIGH)[None, None, :]
    in_n = n < N
    u += clip * u_b + d[None, :] * u_d
    delta += clip * delta_b + d[None, :] * delta_d
    z += clip * z_b + d[None, :] * z_d
    y += clip * y_b + d[None, :] * y_d
    B += clip * B_b + n * B_n
    C += clip * C_b + n * C_n
    state = tl.zeros((STATES, CHANNELS), dtype=tl.float32)
    at = tl.minimum(t, length - 1)  # positions beyond the end repeat the last token
    next_u = tl.load(u + at[:, None] * u_l)
    next_delta = tl.load(delta + at[:, None] * delta_l)
    next_z = tl.load(z + at[:, None] * z_l)
    next_B = _load_states(B, at[None, :, None] * B_l, in_n, VECTOR, ALL)
    next_C = _load_states(C, at[None, :, None] * C_l, in_n, VECTOR, ALL)
    for start in range(0, length, TOKENS):
        x, step, gate = _widen(next_u), _widen(next_delta), _widen(next_z)
        if HALF:  # exchanged between threads together, in half precision
            bc = tl.join(_by_token(next_B), _by_token(next_C))
        else:
            b, c = _by_token(next_B), _by_token(next_C)
        at = tl.minimum(start + TOKENS + t, length - 1)
        next_u = tl.load(u + at[:, None] * u_l)
        next_delta = tl.load(delta + at[:, None] * delta_l)
        next_z = tl.load(z + at[:, None] * z_l)
        next_B = _load_states(B, at[None, :, None] * B_l, in_n, VECTOR, ALL)
        next_C = _load_states(C, at[None, :, None] * C_l, in_n, VECTOR, ALL)
        step = _softplus(step + bias[None, :], HALF)
        keep = _exp2(step[:, None, :] * a[None, :, :])  # (TOKENS, STATES, CHANNELS), as all below
        if HALF:
            b, c = tl.split(_widen_each(tl.broadcast_to(bc[:, :, None, :], (TOKENS, STATES, CHANNELS, 2))))
            add = (step * x)[:, None, :] * b
        else:
            add = (step * x)[:, None, :] * b[:, :, None]
        add = tl.where(t[:, None, None] == 0, keep * state[None, :, :] + add, add)
        _, states = tl.associative_scan((keep, add), 0, _compose)
        state = tl.sum(tl.where(t[:, None, None] == TOKENS - 1, states, 0.0), axis=0)
        out = states * c if HALF else states * c[:, :, None]
        out = tl.sum(tl.reshape(out, (TOKENS, HIGH, LOW, CHANNELS)), axis=1)
        out = tl.permute(out, (0, 2, 1))  # (TOKENS, CHANNELS, LOW)
        if LOW >= 8:
            out = _add_pairs(out)
        if LOW >= 4:
            out = _add_pairs(out)
        if LOW >= 2:
            out = _add_pairs(out)
        out = tl.reshape(out, (TOKENS, CHANNELS)) + skip[None, :] * x
        out *= gate * _reciprocal(1.0 + _exp2(gate * -LOG2E))
        at = start + t
        inside = in_d[None, :] & (at < length)[:, None]
        tl.store(y + at[:, None] * y_l, out.to(y.dtype.element_ty), mask=inside)


def triton_scan(u, delta, A, B, C, D, z, delta_bias, reverse: bool = False) -> Tensor:
    """Compute `kernels.scan.selective_scan` without a gradient; any strides, fastest if ``stride(1) == 1``."""
    batch, width, length = u.shape
    n_states = A.shape[1]
    y = torch.empty_like(u)
    # A program is one warp with few channels if the work would otherwise occupy less than half the multiprocessors.
    few = batch * triton.cdiv(width, 32) < multiprocessors(u.device) // 2
    channels, warps = (4, 1) if few else (32, 4)
    states = triton.next_power_of_2(n_states)
    tokens = max(4, min(16, 256 // states))  # as many as fit the registers
    row = max(1, channels * tokens // (32 * warps))  # channels that a thread loads at once
    row = 1 if width % row else row
    low = min(4, states)
    high = states // low
    vector = high if states == n_states and _in_groups(B, high) and _in_groups(C, high) else 1
    along = (u, delta, B, C, z, y)
    strides = [s for t in along for s in (*t.stride()[:2], -t.stride(2) if reverse else t.stride(2))]
    if reverse:  # begin at the last token, with negative strides
        along = [t[:, :, -1:] for t in along]
    u, delta, B, C, z, out = along
    A, D, delta_bias = (t.float().contiguous() for t in (A, D, delta_bias))
    with torch.cuda.device(u.device):
        _scan_kernel[(triton.cdiv(width, channels), batch)](
            u, delta, A, B, C, D, z, delta_bias, out, width, length, *strides,
            N=n_states, STATES=states, LOW=low, CHANNELS=channels, TOKENS=tokens, ROW=row, VECTOR=vector,
            num_warps=warps,
        )  # fmt: skip
    return y


def _in_groups(t: Tensor, size: int) -> bool:
    """Tell whether the states of ``t``, ``(B, N, L)``, can be loaded ``size`` at once."""
    batch, state, token = t.stride()
    return state == 1 and not (batch % size or token % size or t.data_ptr() % (size * t.element_size()))
