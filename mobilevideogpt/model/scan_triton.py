"""The selective scan as a Triton kernel, for CUDA devices without `mamba_ssm`; forward only. Needs Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 32  # of one program; each walks along its whole sequence


@triton.jit
def _scan_kernel(
    u, delta, A, B, C, D, z, delta_bias, y,
    width, length, n_states,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, B_b, B_n, B_l, C_b, C_n, C_l, z_b, z_d, z_l, y_b, y_d, y_l,
    CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    in_d, in_n = d < width, n < n_states
    a = tl.load(A + d[:, None] * n_states + n, mask=in_d[:, None] & in_n, other=0.0)
    skip = tl.load(D + d, mask=in_d, other=0.0)
    bias = tl.load(delta_bias + d, mask=in_d, other=0.0)
    u += clip * u_b + d * u_d
    delta += clip * delta_b + d * delta_d
    z += clip * z_b + d * z_d
    y += clip * y_b + d * y_d
    B += clip * B_b + n * B_n
    C += clip * C_b + n * C_n
    state = tl.zeros((CHANNELS, STATES), dtype=tl.float32)
    for _ in range(length):
        x = tl.load(u, mask=in_d, other=0.0).to(tl.float32)
        step = tl.load(delta, mask=in_d, other=0.0).to(tl.float32) + bias
        exp = tl.exp(step)
        one = 1.0 + exp  # log(1 + exp) with what the sum rounds away put back
        small = tl.where(one == 1.0, exp, tl.log(one) * (exp / (one - 1.0)))
        step = tl.where(step > 20.0, step, small)
        gate = tl.load(z, mask=in_d, other=0.0).to(tl.float32)
        b = tl.load(B, mask=in_n, other=0.0).to(tl.float32)
        c = tl.load(C, mask=in_n, other=0.0).to(tl.float32)
        state = tl.exp(step[:, None] * a) * state + (step * x)[:, None] * b
        out = tl.sum(state * c, axis=1) + skip * x
        tl.store(y, (out * gate * tl.sigmoid(gate)).to(y.dtype.element_ty), mask=in_d)
        u += u_l
        delta += delta_l
        z += z_l
        y += y_l
        B += B_l
        C += C_l


def triton_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """`mobilevideogpt.model.scan.selective_scan` without a gradient; any strides."""
    batch, width, length = u.shape
    n_states = A.shape[1]
    y = torch.empty_like(u)
    grid = (batch, triton.cdiv(width, CHANNELS))
    strides = [s for t in (u, delta, B, C, z, y) for s in t.stride()]
    vectors = (A.float().contiguous(), B, C, D.float().contiguous(), z, delta_bias.float().contiguous())
    with torch.cuda.device(u.device):
        _scan_kernel[grid](
            u, delta, *vectors, y, width, length, n_states, *strides,
            CHANNELS=CHANNELS, STATES=triton.next_power_of_2(n_states), num_warps=1,
        )  # fmt: skip
    return y
