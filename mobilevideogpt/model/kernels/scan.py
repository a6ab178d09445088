"""The selective scan of Mamba (arXiv:2312.00752). Shapes: B clips, D channels, L tokens, N states.

    s_t = exp(delta_t A) s_{t-1} + delta_t B_t u_t        y_t = (C_t . s_t + D u_t) silu(z_t)

with ``delta = softplus(delta + delta_bias)``; in reverse, ``s_{t+1}`` stands for ``s_{t-1}``. The ways: the kernel of
`mamba_ssm` where that package is installed; Triton kernels on any other CUDA device; a compiled loop on the CPU,
without a gradient; plain PyTorch for the rest.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)
# What a step of the plain way handles at once: enough numbers to hide Python, few enough for the cache.
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
    """Scan by the fastest way that this device and these tensors allow; all compute in float32 inside.

    Args:
        u: Input, ``(B, D, L)``; fastest if its memory lies token by token (``stride(1) == 1``).
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
    if not needs_grad and (kernel := _kernel(u.device.type)):
        return kernel(*tensors, reverse)
    if reverse:
        return flipped(selective_scan, *tensors)
    if u.is_cuda and (kernel := _mamba_ssm()):
        return kernel(u, delta, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=True)
    if u.is_cuda and triton_works():
        from mobilevideogpt.model.kernels.scan_gradient import gradient_scan

        return gradient_scan(*tensors)
    return plain_scan(*tensors)


def flipped(scan: Callable[..., Tensor], u, delta, A, B, C, D, z, delta_bias) -> Tensor:
    """What a way that knows one direction finds in reverse; the tensors are those of `selective_scan`."""
    u, delta, B, C, z = (t.flip(-1) for t in (u, delta, B, C, z))
    return scan(u, delta, A, B, C, D, z, delta_bias).flip(-1)


@cache
def _mamba_ssm():
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:  # not installed, or built for another torch
        return None
    return selective_scan_fn


def _kernel(device_type: str):
    """The kernel of `selective_scan` on such a device, forward only but in both directions, or None."""
    if device_type == "cuda" and not _mamba_ssm() and triton_works():
        from mobilevideogpt.model.kernels.scan_triton import triton_scan

        return triton_scan
    return _numba() if device_type == "cpu" else None


def conv_kernel(device_type: str):
    """The kernel of `mobilevideogpt.model.videomamba.Convolution` on such a device, forward only, or None."""
    if device_type == "cuda" and triton_works():
        from mobilevideogpt.model.kernels.conv_triton import triton_conv_silu

        return triton_conv_silu
    if device_type == "cpu" and _numba():
        from mobilevideogpt.model.kernels.scan_cpu import cpu_conv_silu

        return cpu_conv_silu
    return None


@cache
def triton_works() -> bool:
    """Whether Triton kernels run here; a notice says so if not."""
    try:
        from mobilevideogpt.model.kernels.scan_triton import triton_scan

        one = torch.ones(1, 1, 1, device="cuda")
        triton_scan(one, one, -one[0], one, one, one[0, 0], one, one[0, 0])
    except (ImportError, RuntimeError, OSError) as error:  # no Triton, or no C compiler, which it needs
        log.warning("the selective scan falls back to plain PyTorch, which is slow on a GPU: %s", error)
        return False
    return True


@cache
def _numba():
    try:
        from mobilevideogpt.model.kernels.scan_cpu import cpu_scan
    except ImportError as error:  # also what Numba raises beside a NumPy that it does not know
        log.warning("the selective scan falls back to plain PyTorch, which is slow: %s", error)
        return None
    return cpu_scan


def plain_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """`selective_scan` in plain PyTorch, with a gradient.

    The sequence is cut in chunks that are stepped through side by side: once from zero for the state that each chunk
    adds at its end, then, with the states passed on from chunk to chunk, once more for the output. Every factor is at
    most 1, so nothing overflows however long the sequence is.
    """
    u32 = u.float().mT  # (B, L, D), as all below
    step = F.softplus(delta.float().mT + delta_bias)
    x = step * u32
    B, C = B.float().mT, C.float().mT  # (B, L, N)
    decay = A.float().mT.contiguous()  # (N, D)
    y = torch.stack([_scan_clip(*clip, decay) for clip in zip(step, x, B, C, strict=True)])  # (B, L, D)
    return ((y + u32 * D) * F.silu(z.float().mT)).mT.to(u.dtype)


def _scan_clip(step: Tensor, x: Tensor, B: Tensor, C: Tensor, decay: Tensor) -> Tensor:
    """``y_t = C_t . s_t`` with ``s_t = exp(step_t decay) s_{t-1} + x_t B_t``: ``(L, D)`` of one clip."""
    length, (n_states, width) = len(step), decay.shape
    chunks = min(max(1, STATES_PER_STEP // (n_states * width)), max(1, int(length**0.5)))
    steps = -(-length // chunks)

    def side_by_side(t):  # (L, ...) -> (steps, chunks, ...); zeros at the end change nothing
        t = F.pad(t, (0, 0, 0, chunks * steps - length))
        return t.unflatten(0, (chunks, steps)).transpose(0, 1)

    step, x, B, C = side_by_side(step), side_by_side(x), side_by_side(B), side_by_side(C)
    keep = [(s[:, None] * decay).exp_() for s in step]  # steps times (chunks, N, D)
    add = [b[:, :, None] * v[:, None] for b, v in zip(B, x, strict=True)]
    state = torch.zeros(chunks, n_states, width, device=step.device)
    if chunks > 1:
        for k, a in zip(keep, add, strict=True):
            state = torch.addcmul(a, k, state)  # what each chunk adds
        through = (step.sum(0)[:, None] * decay).exp()  # what it lets through
        carried = [torch.zeros_like(state[0])]
        for k, s in zip(through[:-1], state[:-1], strict=True):
            carried.append(torch.addcmul(s, k, carried[-1]))
        state = torch.stack(carried)  # before each chunk
    y = []
    for k, a, c in zip(keep, add, C, strict=True):
        state = torch.addcmul(a, k, state)
        y.append(torch.bmm(c[:, None], state)[:, 0])  # (chunks, D)
    return torch.stack(y, 1).flatten(0, 1)[:length]
