"""The short causal convolution before the selective scan, with its SiLU, as a Triton kernel; forward only."""

# Triton is absent on a machine without a GPU, and a kernel is launched as kernel[grid](...).
# pyright: reportMissingImports=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS, CHANNELS = 16, 128  # that one program computes


@triton.jit
def _conv_kernel(
    x, weight, bias, y, width, length, x_b, x_l,
    TAPS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)[:, None]
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    in_d = d < width
    total = tl.zeros((TOKENS, CHANNELS), dtype=tl.float32) + tl.load(bias + d, mask=in_d, other=0.0).to(tl.float32)
    for tap in tl.static_range(TAPS):
        at = t + tap if REVERSE else t - tap
        value = tl.load(x + clip * x_b + at * x_l + d, mask=in_d & (at >= 0) & (at < length), other=0.0)
        total += value.to(tl.float32) * tl.load(weight + d * TAPS + TAPS - 1 - tap, mask=in_d, other=0.0).to(tl.float32)
    total *= tl.sigmoid(total)
    target = y + (clip * length + t) * width + d
    tl.store(target, total.to(y.dtype.element_ty), mask=in_d & (t < length))


def triton_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool = False) -> Tensor:
    """Compute `mobilevideogpt.model.videomamba.Convolution` without a gradient, in float32 inside.

    Args:
        x: ``(B, L, D)``, ``stride(2) == 1``.
        weight: ``(D, 1, taps)``; the last tap weighs the token itself.
        bias: ``(D,)``.

    Returns:
        ``(B, L, D)``, contiguous, in the dtype of ``x``.
    """
    batch, length, width = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(length, TOKENS), triton.cdiv(width, CHANNELS), batch)
    with torch.cuda.device(x.device):
        _conv_kernel[grid](
            x, weight.contiguous(), bias, y, width, length, x.stride(0), x.stride(1),
            TAPS=weight.shape[-1], TOKENS=TOKENS, CHANNELS=CHANNELS, REVERSE=reverse,
        )  # fmt: skip
    return y
