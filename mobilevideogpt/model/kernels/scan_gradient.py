"""The selective scan with its gradient as two Triton kernels, for training the encoder with plenty of memory.

The forward pass saves every state, ``(B, L, D, N)`` in float32. The backward pass reads them from the end. Shapes:
B clips, L tokens, D channels, N states. The module imports Triton.
"""

# Triton is absent on a machine without a GPU, and a kernel is launched as kernel[grid](...).
# pyright: reportMissingImports=false, reportIndexIssue=false

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 16  # of one program, which scans its whole sequence


@triton.jit
def _forward(u, step, A, B, C, y, states, width, length, n_states, CHANNELS: tl.constexpr, STATES: tl.constexpr):
    clip = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    in_d, in_n = d < width, n < n_states
    inside = in_d[:, None] & in_n
    a = tl.load(A + d[:, None] * n_states + n, mask=inside, other=0.0)
    state = tl.zeros((CHANNELS, STATES), dtype=tl.float32)
    for t in range(length):
        token = clip * length + t
        x = tl.load(u + token * width + d, mask=in_d, other=0.0)
        s = tl.load(step + token * width + d, mask=in_d, other=0.0)
        b = tl.load(B + token * n_states + n, mask=in_n, other=0.0)
        c = tl.load(C + token * n_states + n, mask=in_n, other=0.0)
        state = tl.exp(s[:, None] * a) * state + (s * x)[:, None] * b
        tl.store(states + (token * width + d[:, None]) * n_states + n, state, mask=inside)
        tl.store(y + token * width + d, tl.sum(state * c, axis=1), mask=in_d)


@triton.jit
def _backward(
    u, step, A, B, C, states, dy, du, dstep, dA, dB, dC, width, length, n_states,
    CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    in_d, in_n = d < width, n < n_states
    inside = in_d[:, None] & in_n
    a = tl.load(A + d[:, None] * n_states + n, mask=inside, other=0.0)
    dstate = tl.zeros((CHANNELS, STATES), dtype=tl.float32)
    da = tl.zeros((CHANNELS, STATES), dtype=tl.float32)
    for i in range(length):
        t = length - 1 - i
        token = clip * length + t
        x = tl.load(u + token * width + d, mask=in_d, other=0.0)
        s = tl.load(step + token * width + d, mask=in_d, other=0.0)
        g = tl.load(dy + token * width + d, mask=in_d, other=0.0)
        b = tl.load(B + token * n_states + n, mask=in_n, other=0.0)
        c = tl.load(C + token * n_states + n, mask=in_n, other=0.0)
        offset = (token * width + d[:, None]) * n_states + n
        state = tl.load(states + offset, mask=inside, other=0.0)
        previous = tl.load(states + offset - width * n_states, mask=inside & (t > 0), other=0.0)
        keep = tl.exp(s[:, None] * a)
        tl.atomic_add(dC + token * n_states + n, tl.sum(g[:, None] * state, axis=0), mask=in_n)
        dstate += g[:, None] * c
        tl.atomic_add(dB + token * n_states + n, tl.sum(dstate * (s * x)[:, None], axis=0), mask=in_n)
        du_step = tl.sum(dstate * b, axis=1)
        tl.store(du + token * width + d, du_step * s, mask=in_d)
        kept = dstate * keep * previous
        tl.store(dstep + token * width + d, tl.sum(kept * a, axis=1) + du_step * x, mask=in_d)
        da += kept * s[:, None]
        dstate *= keep
    tl.atomic_add(dA + d[:, None] * n_states + n, da, mask=inside)


class _Scan(torch.autograd.Function):
    """Compute ``y_t = C_t . s_t`` with ``s_t = exp(step_t A) s_{t-1} + step_t u_t B_t``; all float32 and contiguous."""

    @staticmethod
    def forward(ctx, u, step, A, B, C):
        batch, length, width = u.shape
        y, states = torch.empty_like(u), u.new_empty(batch, length, width, A.shape[1])
        ctx.sizes = (width, length, A.shape[1])
        ctx.grid = (batch, triton.cdiv(width, CHANNELS))
        ctx.blocks = {"CHANNELS": CHANNELS, "STATES": triton.next_power_of_2(A.shape[1]), "num_warps": 2}
        _forward[ctx.grid](u, step, A, B, C, y, states, *ctx.sizes, **ctx.blocks)
        ctx.save_for_backward(u, step, A, B, C, states)
        return y

    @staticmethod
    def backward(ctx, dy):
        *tensors, states = ctx.saved_tensors
        du, dstep = torch.empty_like(tensors[0]), torch.empty_like(tensors[1])
        dA, dB, dC = (torch.zeros_like(t) for t in tensors[2:])
        _backward[ctx.grid](*tensors, states, dy.contiguous(), du, dstep, dA, dB, dC, *ctx.sizes, **ctx.blocks)
        return du, dstep, dA, dB, dC


def gradient_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """Compute `mobilevideogpt.model.kernels.scan.selective_scan` with a gradient on a CUDA device."""
    u32 = u.float().mT.contiguous()  # (B, L, D), as all below
    step = F.softplus(delta.float().mT + delta_bias).contiguous()
    y = _Scan.apply(u32, step, A.float().contiguous(), B.float().mT.contiguous(), C.float().mT.contiguous())
    return ((y + u32 * D) * F.silu(z.float().mT)).mT.to(u.dtype)
