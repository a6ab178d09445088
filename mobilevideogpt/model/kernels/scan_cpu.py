"""The selective scan on the CPU, and the convolution before it, compiled by Numba; forward only.

A block of channels is scanned along its sequence with its states in the first-level cache. LLVM vectorises the loops
over the channels; it could not with the library's exponential, so this module has its own.
"""

import ctypes
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from mobilevideogpt.compiling import compiled

CHANNELS, TOKENS = 64, 32  # in a block of the scan, in a block of the convolution
LOG2_E = np.float32(math.log2(math.e))
MIN_POWER, MAX_POWER = np.float32(-126), np.float32(126)  # powers of 2 that are normal float32 numbers
ROUND = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to whole numbers
ONE, TWO = np.float32(1), np.float32(2)
PROCESS = os.getpid()
try:
    GNU_PARALLEL = ctypes.CDLL(None).GOMP_parallel  # of the GNU OpenMP that PyTorch loaded
except (AttributeError, OSError, TypeError):  # PyTorch loaded another OpenMP
    GNU_PARALLEL = None
# After a block of nearly 32 MB was freed, glibc returns memory to the system only beyond 64 MB (mallopt(3)). The memory
# of one layer is then reused by the next; otherwise new pages take a sixth of the encoder's time.
torch.empty(2**25 - 2**14, dtype=torch.uint8)


def _series(function, degree: int, low: float, high: float) -> tuple[np.float32, ...]:
    """Coefficients of a polynomial that interpolates ``function`` from ``low`` to ``high``, lowest power first."""
    fitted = Chebyshev.interpolate(function, degree, [low, high]).convert(kind=Polynomial)
    return tuple(np.float32(c) for c in fitted.coef)


# (2**f - 1) / f, and log(1 + w) / r as a function of r**2 where w = 2 r / (1 - r). Both are exact for small f and w,
# which most steps have.
POWER = _series(lambda f: np.expm1(f * math.log(2)) / f, 5, -0.5, 0.5)
LOG = _series(lambda square: 2 * np.arctanh(np.sqrt(square)) / np.sqrt(square), 5, 0, 1 / 9)


_compiled = partial(compiled, fastmath={"contract"})


@_compiled
def _exp2(x):
    """Compute 2**x for x up to 126; smaller x than -126 count as -126."""
    x = max(x, MIN_POWER)
    shifted = x + ROUND  # its low bits are the integer part
    f = x - (shifted - ROUND)
    c0, c1, c2, c3, c4, c5 = POWER
    power = ONE + f * (c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * c5)))))
    exponent = np.float32(shifted).view(np.int32) << 23
    return np.int32(np.float32(power).view(np.int32) + exponent).view(np.float32)


@_compiled
def _softplus(x):
    w = _exp2(-abs(x) * LOG2_E)
    r = w / (TWO + w)
    s = r * r
    c0, c1, c2, c3, c4, c5 = LOG
    return max(x, np.float32(0)) + r * (c0 + s * (c1 + s * (c2 + s * (c3 + s * (c4 + s * c5)))))


@_compiled
def _silu(x):
    return x / (ONE + _exp2(min(-x * LOG2_E, MAX_POWER)))


@_compiled
def _scan_block(u, delta, z, strides, A, B, C, D, delta_bias, y, reverse, clip, first):
    """Compute a block of channels of one clip's ``y``, ``(B, L, D)``.

    ``u``, ``delta`` and ``z`` are flat, with the strides of clip and token of each in ``strides``; ``A`` is ``(N, D)``,
    multiplied by log2(e); ``B`` and ``C`` are ``(B, L, N)``. All are float32.
    """
    (_, length, n_states), width = B.shape, min(CHANNELS, len(D) - first)
    A, D, delta_bias = A[:, first : first + width], D[first : first + width], delta_bias[first : first + width]
    a, state = A.copy(), np.zeros((n_states, width), np.float32)
    step, x, out = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    u_clip, u_token, delta_clip, delta_token, z_clip, z_token = strides
    for step_number in range(length):
        t = length - 1 - step_number if reverse else step_number
        u_t = u[clip * u_clip + t * u_token + first :][:width]  # contiguous slices, for vector loads
        delta_t = delta[clip * delta_clip + t * delta_token + first :][:width]
        z_t = z[clip * z_clip + t * z_token + first :][:width]
        y_t = y[clip, t, first : first + width]
        for d in range(width):
            step[d] = _softplus(delta_t[d] + delta_bias[d])
            x[d] = step[d] * u_t[d]
            out[d] = D[d] * u_t[d]
        for n in range(n_states):
            b, c = B[clip, t, n], C[clip, t, n]
            for d in range(width):
                s = _exp2(step[d] * a[n, d]) * state[n, d] + x[d] * b
                state[n, d] = s
                out[d] += s * c
        for d in range(width):
            y_t[d] = out[d] * _silu(z_t[d])


@_compiled
def _conv_block(x, strides, weight, bias, y, reverse, clip, first):
    """Compute a block of tokens of one clip's ``y``, ``(B, L, D)``, from flat ``x``; ``weight`` is ``(taps, D)``."""
    taps, (_, length, width) = len(weight), y.shape
    total = np.empty(width, np.float32)
    x_clip, x_token = strides
    for t in range(first, min(first + TOKENS, length)):
        y_t = y[clip, t]
        total[:] = bias
        for tap in range(taps):
            source = t + tap if reverse else t - tap
            if 0 <= source < length:
                x_t = x[clip * x_clip + source * x_token :][:width]
                for d in range(width):
                    total[d] += weight[taps - 1 - tap, d] * x_t[d]
        for d in range(width):
            y_t[d] = _silu(total[d])


def cpu_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool = False) -> Tensor:
    """Compute `mobilevideogpt.model.videomamba.Convolution` without a gradient; as `conv_triton.triton_conv_silu`."""
    flat, strides = _flat(x.mT)
    y = torch.empty(x.shape, dtype=torch.float32)
    arrays = [t.detach().float().contiguous().numpy() for t in (weight[:, 0].mT, bias, y)]
    blocks = product(range(len(x)), range(0, x.shape[1], TOKENS))
    _run_blocks(lambda block: _conv_block(flat, strides, *arrays, reverse, *block), blocks)
    return y.to(x.dtype)


def cpu_scan(u, delta, A, B, C, D, z, delta_bias, reverse: bool = False) -> Tensor:
    """Compute `kernels.scan.selective_scan` without a gradient, on as many threads as PyTorch may use."""
    flat, strides = zip(*(_flat(t) for t in (u, delta, z)), strict=True)
    y = torch.empty_like(u.mT, dtype=torch.float32, memory_format=torch.contiguous_format)
    matrices = (A.float().mT * LOG2_E.item(), B.float().mT, C.float().mT, D.float(), delta_bias.float(), y)
    arrays = [t.detach().contiguous().numpy() for t in matrices]
    blocks = product(range(len(u)), range(0, u.shape[1], CHANNELS))
    _run_blocks(lambda block: _scan_block(*flat, sum(strides, ()), *arrays, reverse, *block), blocks)
    return y.mT.to(u.dtype)


def _run_blocks(call: Callable, blocks: Iterable) -> None:
    """Call ``call(block)`` for all blocks, on as many threads as PyTorch may use.

    If possible these are PyTorch's own threads, because they occupy a core for milliseconds after each operation while
    they wait for the next one. A forked process does not have them.
    """
    threads, remaining, errors = torch.get_num_threads(), iter(list(blocks)), []

    def work(_=None):
        try:
            for block in remaining:
                call(block)
        except BaseException as error:  # C code between here and the caller would lose it
            errors.append(error)

    if threads == 1:
        work()
    elif GNU_PARALLEL and os.getpid() == PROCESS:
        GNU_PARALLEL(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work), None, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:  # not Numba's own threads, which do not survive a fork
            list(pool.map(work, range(threads)))
    if errors:
        raise errors[0]


def _flat(t: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the memory of ``(B, D, L)`` in float32 with adjacent channels, and the strides of clip and token."""
    t = t.detach().float().mT
    t = t if t.stride(2) == 1 else t.contiguous()
    reach = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return t.as_strided((reach,), (1,)).numpy(), (t.stride(0), t.stride(1))
