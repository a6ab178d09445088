"""Pillow's bicubic resampling of a part of the result, equal to the bit, in a quarter of the time.

As in Pillow, weights are whole numbers of 2**-22, the width is resized before the height, and each pass rounds to 8
bits. Here both passes add up whole rows of memory, in loops that LLVM vectorises, and compute the wanted part alone.
Pillow 13 resizes the height of tall frames first; this module does as the releases before, with which the model was
trained.
"""

import math
from functools import lru_cache

import cv2
import numpy as np

from mobilevideogpt.compiling import compiled

PRECISION_BITS = 22
SUPPORT = 2.0  # pixels on each side, before the scale


def bicubic_part(frame: np.ndarray, width: int, height: int, left: int, top: int, side: int) -> np.ndarray:
    """Return a square of a resized frame: what Pillow's ``resize((width, height), BICUBIC)`` and ``crop`` return.

    Args:
        frame: RGB ``(H, W, 3)`` uint8.
        width: Of the resized frame, in pixels.
        height: Likewise.
        left: Of the square in the resized frame.
        top: Likewise.
        side: Of the square.

    Returns:
        ``(side, side, 3)`` uint8.
    """
    used_x, first_x, weights_x = _weights(frame.shape[1], width, left, side)
    used_y, first_y, weights_y = _weights(frame.shape[0], height, top, side)
    part = frame[used_y, used_x]  # (h, w, 3)
    across = _resize_rows(_rows(cv2.transpose(part)), first_x, weights_x)  # (side, h * 3)
    down = cv2.transpose(across.reshape(side, -1, 3))  # (h, side, 3)
    return _resize_rows(_rows(down), first_y, weights_y).reshape(side, side, 3)


def _rows(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(len(picture), -1)


@lru_cache(maxsize=8)
def _weights(size: int, resized: int, start: int, count: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """Return the weights of pixels along one axis, for ``count`` pixels of the result from ``start`` on.

    Returns:
        The pixels that are used, the first of them for each pixel of the result, ``(count,)``, and their weights in
        units of 2**-22, int32 ``(count, taps)``; the number of taps is even.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    support = SUPPORT * stretch
    firsts, rows = [], []
    for i in range(start, start + count):
        centre = (i + 0.5) * scale
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        row = [_bicubic((x - centre + 0.5) * (1.0 / stretch)) for x in range(low, high)]
        total = 0.0
        for weight in row:  # not sum(), which rounds less
            total += weight
        units = (weight / total * 2**PRECISION_BITS for weight in row)
        rows.append([int(unit + math.copysign(0.5, unit)) for unit in units])
        firsts.append(low)
    taps = max(map(len, rows))
    weights = np.zeros((count, taps + taps % 2), np.int32)
    for found, row in zip(weights, rows, strict=True):
        found[: len(row)] = row
    used = slice(firsts[0], max(first + len(row) for first, row in zip(firsts, rows, strict=True)))
    return used, np.array(firsts) - used.start, weights


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


@compiled
def _resize_rows(rows, first, weights):
    """Return sums of consecutive ``rows``, uint8 ``(n, m)``, weighted from row ``first`` on: ``(count, m)``."""
    count, taps = weights.shape
    last, length = rows.shape[0] - 1, rows.shape[1]
    resized = np.empty((count, length), np.uint8)
    total = np.empty(length, np.int32)
    for i in range(count):
        total[:] = 1 << (PRECISION_BITS - 1)
        for tap in range(0, taps, 2):
            # Taps beyond the last row have no weight.
            one, another = rows[min(first[i] + tap, last)], rows[min(first[i] + tap + 1, last)]
            weight, other_weight = weights[i, tap], weights[i, tap + 1]
            for j in range(length):
                total[j] += weight * np.int32(one[j]) + other_weight * np.int32(another[j])
        row = resized[i]
        for j in range(length):
            row[j] = min(max(total[j] >> PRECISION_BITS, 0), 255)
    return resized
