"""The selective scan of Mamba (arXiv:2312.00752). Shapes: B clips, D channels, L tokens, N states.

    s_t = exp(delta_t A) s_{t-1} + delta_t B_t u_t        y_t = (C_t . s_t + D u_t) silu(z_t)

with ``delta = softplus(delta + delta_bias)``; in reverse, ``s_{t+1}`` replaces ``s_{t-1}``. `backends` lists the
backends.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevideogpt.model.kernels.backends import inference_scan, mamba_ssm_scan, triton_works

# States in a step of `pytorch_scan`: enough to hide the overhead of Python, few enough for the cache.
STATES_PER_STEP = 2**18


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    reverse: bool = False,
) -> Tensor:
    """Scan with the fastest backend for this device and these tensors; every backend computes in float32 inside.

    Args:
        u: Input, ``(B, D, L)``; fastest if the channels of a token are adjacent in memory (``stride(1) == 1``).
        delta: Step sizes before bias and softplus, ``(B, D, L)``.
        A: State matrix, negative, float32, ``(D, N)``.
        B: Input matrix, ``(B, N, L)``.
        C: Output matrix, ``(B, N, L)``.
        D: Skip, float32, ``(D,)``.
        z: Gate before SiLU, ``(B, D, L)``.
        delta_bias: float32, ``(D,)``.
        reverse: Scan from the last token to the first.

    Returns:
        ``(B, D, L)`` in the dtype of ``u``.
    """
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not needs_grad and (scan := inference_scan(u.device.type)):
        return scan(*tensors, reverse)
    if reverse:
        return scan_reversed(selective_scan, *tensors)
    if u.is_cuda and (scan := mamba_ssm_scan()):
        return scan(u, delta, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=True)
    if u.is_cuda and triton_works():
        from mobilevideogpt.model.kernels.scan_gradient import gradient_scan

        return gradient_scan(*tensors)
    return pytorch_scan(*tensors)


def scan_reversed(scan: Callable[..., Tensor], u, delta, A, B, C, D, z, delta_bias) -> Tensor:
    """Scan from the last token to the first with a ``scan`` that has one direction; tensors as in `selective_scan`."""
    u, delta, B, C, z = (t.flip(-1) for t in (u, delta, B, C, z))
    return scan(u, delta, A, B, C, D, z, delta_bias).flip(-1)


def pytorch_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """Compute `selective_scan` in PyTorch alone, with a gradient.

    The sequence is split into chunks that are scanned in parallel. A first pass starts from zero and finds the state
    that each chunk adds. These states are then carried from chunk to chunk, and a second pass computes the output.
    Every factor is at most 1, so no sequence is long enough to overflow.
    """
    u32 = u.float().mT  # (B, L, D), as all below
    step = F.softplus(delta.float().mT + delta_bias)
    x = step * u32
    B, C = B.float().mT, C.float().mT  # (B, L, N)
    decay = A.float().mT.contiguous()  # (N, D)
    y = torch.stack([_scan_clip(*clip, decay) for clip in zip(step, x, B, C, strict=True)])  # (B, L, D)
    return ((y + u32 * D) * F.silu(z.float().mT)).mT.to(u.dtype)


def _scan_clip(step: Tensor, x: Tensor, B: Tensor, C: Tensor, decay: Tensor) -> Tensor:
    """Compute ``y_t = C_t . s_t`` with ``s_t = exp(step_t decay) s_{t-1} + x_t B_t``, ``(L, D)``, of one clip."""
    length, (n_states, width) = len(step), decay.shape
    chunks = min(max(1, STATES_PER_STEP // (n_states * width)), max(1, int(length**0.5)))
    steps = -(-length // chunks)

    def in_chunks(t):  # (L, ...) -> (steps, chunks, ...); zeros at the end change nothing
        t = F.pad(t, (0, 0, 0, chunks * steps - length))
        return t.unflatten(0, (chunks, steps)).transpose(0, 1)

    step, x, B, C = in_chunks(step), in_chunks(x), in_chunks(B), in_chunks(C)
    keep = [(s[:, None] * decay).exp_() for s in step]  # steps times (chunks, N, D)
    add = [b[:, :, None] * v[:, None] for b, v in zip(B, x, strict=True)]
    state = torch.zeros(chunks, n_states, width, device=step.device)
    if chunks > 1:
        for k, a in zip(keep, add, strict=True):
            state = torch.addcmul(a, k, state)  # the state that each chunk adds
        chunk_decay = (step.sum(0)[:, None] * decay).exp()  # the decay over a whole chunk
        carried = [torch.zeros_like(state[0])]
        for k, s in zip(chunk_decay[:-1], state[:-1], strict=True):
            carried.append(torch.addcmul(s, k, carried[-1]))
        state = torch.stack(carried)  # the state before each chunk
    y = []
    for k, a, c in zip(keep, add, C, strict=True):
        state = torch.addcmul(a, k, state)
        y.append(torch.bmm(c[:, None], state)[:, 0])  # (chunks, D)
    return torch.stack(y, 1).flatten(0, 1)[:length]
