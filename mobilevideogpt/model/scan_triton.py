"""The selective scan as a Triton kernel, for CUDA devices without `mamba_ssm`; forward only. Needs Triton.

One warp walks along the sequence of a few channels. It takes a tile of tokens at a time: what the recurrence needs is
computed for all of them side by side, then the states are run through in registers. The loads of a tile are issued
two tiles ahead, for a warp has too few companions on its scheduler to wait for memory.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _exp2(x):
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _reciprocal(x):
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _softplus(x):
    """``max(x, 0) + log(1 + e)``, ``e = exp(-|x|)``; the logarithm is ``2 atanh(e / (2 + e))``, by its series."""
    e = _exp2(tl.abs(x) * -LOG2E)
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
def _after(keep, add, next_keep, next_add):
    return keep * next_keep, next_keep * add + next_add


# The strides of B and C stay plain numbers: with a known 1, Triton would load them in an order that needs more exchange
# between threads than it saves.
@triton.jit(do_not_specialize=["B_n", "C_n"])
def _scan_kernel(
    u, delta, A, B, C, D, z, delta_bias, y,
    width, length, n_states,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, B_b, B_n, B_l, C_b, C_n, C_l, z_b, z_d, z_l, y_b, y_d, y_l,
    CHANNELS: tl.constexpr, STATES: tl.constexpr, TOKENS: tl.constexpr, ROW: tl.constexpr,
):  # fmt: skip
    LOW: tl.constexpr = min(4, STATES)  # loaded as (LOW, TOKENS, HIGH), so that states change threads but once
    clip = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    t = tl.arange(0, TOKENS)
    in_d, in_n = d < width, n < n_states
    a = LOG2E * tl.load(A + d[None, :] * n_states + n[:, None], mask=in_n[:, None] & in_d[None, :], other=0.0)
    d = tl.max_contiguous(tl.multiple_of(tl.where(in_d, d, 0), ROW), ROW)
    skip, bias = tl.load(D + d), tl.load(delta_bias + d)
    n = tl.arange(0, STATES // LOW)[None, None, :] * LOW + tl.arange(0, LOW)[:, None, None]
    in_n = n < n_states
    u += clip * u_b + d[None, :] * u_d
    delta += clip * delta_b + d[None, :] * delta_d
    z += clip * z_b + d[None, :] * z_d
    y += clip * y_b + d[None, :] * y_d
    B += clip * B_b + n * B_n
    C += clip * C_b + n * C_n
    state = tl.zeros((STATES, CHANNELS), dtype=tl.float32)
    at = tl.minimum(t, length - 1)  # what lies beyond the end repeats the last token
    u1 = tl.load(u + at[:, None] * u_l).to(tl.float32)
    delta1 = tl.load(delta + at[:, None] * delta_l).to(tl.float32)
    z1 = tl.load(z + at[:, None] * z_l).to(tl.float32)
    B1 = tl.load(B + at[None, :, None] * B_l, mask=in_n, other=0.0).to(tl.float32)
    C1 = tl.load(C + at[None, :, None] * C_l, mask=in_n, other=0.0).to(tl.float32)
    at = tl.minimum(t + TOKENS, length - 1)
    u2 = tl.load(u + at[:, None] * u_l)
    delta2 = tl.load(delta + at[:, None] * delta_l)
    z2 = tl.load(z + at[:, None] * z_l)
    B2 = tl.load(B + at[None, :, None] * B_l, mask=in_n, other=0.0)
    C2 = tl.load(C + at[None, :, None] * C_l, mask=in_n, other=0.0)
    for start in range(0, length, TOKENS):
        x, step, gate = u1, delta1, z1
        b = tl.reshape(tl.permute(B1, (1, 2, 0)), (TOKENS, STATES))
        c = tl.reshape(tl.permute(C1, (1, 2, 0)), (TOKENS, STATES))
        # Made float32 an iteration before they are used: else Triton moves half-precision numbers between threads
        # first and then computes with each of them several times over.
        u1, delta1, z1 = u2.to(tl.float32), delta2.to(tl.float32), z2.to(tl.float32)
        B1, C1 = B2.to(tl.float32), C2.to(tl.float32)
        at = tl.minimum(start + 2 * TOKENS + t, length - 1)
        u2 = tl.load(u + at[:, None] * u_l)
        delta2 = tl.load(delta + at[:, None] * delta_l)
        z2 = tl.load(z + at[:, None] * z_l)
        B2 = tl.load(B + at[None, :, None] * B_l, mask=in_n, other=0.0)
        C2 = tl.load(C + at[None, :, None] * C_l, mask=in_n, other=0.0)
        step = _softplus(step + bias[None, :])
        keep = _exp2(step[:, None, :] * a[None, :, :])  # (TOKENS, STATES, CHANNELS), as all below
        add = (step * x)[:, None, :] * b[:, :, None]
        add += tl.where(t[:, None, None] == 0, keep * state[None, :, :], 0.0)
        _, states = tl.associative_scan((keep, add), 0, _after)
        state = tl.sum(tl.where(t[:, None, None] == TOKENS - 1, states, 0.0), axis=0)
        out = tl.sum(states * c[:, :, None], axis=1) + skip[None, :] * x  # (TOKENS, CHANNELS)
        out *= gate * _reciprocal(1.0 + _exp2(gate * -LOG2E))
        at = start + t
        inside = in_d[None, :] & (at < length)[:, None]
        tl.store(y + at[:, None] * y_l, out.to(y.dtype.element_ty), mask=inside)


@cache
def multiprocessors(device: torch.device) -> int:
    """How many the GPU has."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def triton_scan(u, delta, A, B, C, D, z, delta_bias, reverse: bool = False) -> Tensor:
    """`mobilevideogpt.model.scan.selective_scan` without a gradient; any strides, fastest if ``stride(1) == 1``."""
    batch, width, length = u.shape
    y = torch.empty_like(u)
    # Fewer channels a warp where there are too few warps for the device's four schedulers a multiprocessor.
    few = batch * triton.cdiv(width, 8) < 4 * multiprocessors(u.device)
    channels, tokens = (4, 16) if few else (8, 8)
    row = 1 if width % 2 else channels * tokens // 32  # channels that a thread loads at once, with work for all 32
    along = (u, delta, B, C, z, y)
    strides = [s for t in along for s in (*t.stride()[:2], -t.stride(2) if reverse else t.stride(2))]
    if reverse:  # it begins at the last token and walks back
        along = [t[:, :, -1:] for t in along]
    u, delta, B, C, z, out = along
    A, D, delta_bias = (t.float().contiguous() for t in (A, D, delta_bias))
    with torch.cuda.device(u.device):
        _scan_kernel[(triton.cdiv(width, channels), batch)](
            u, delta, A, B, C, D, z, delta_bias, out, width, length, A.shape[1], *strides,
            CHANNELS=channels, STATES=triton.next_power_of_2(A.shape[1]), TOKENS=tokens, ROW=row, num_warps=1,
        )  # fmt: skip
    return y
