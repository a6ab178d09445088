"""Perceptual hashes of frames: near for pictures that look alike, whatever their size, encoding and brightness.

As pHash (Zauner, 2010): the signs of the lowest frequencies of the cosine transform. Signs, not a median, so that the
hash of the mirrored picture follows from that of the picture.
"""

from collections.abc import Iterable

import numpy as np

SIDE = 8  # frequencies along each edge
FLAT = 1.0  # grey levels; a picture whose strongest frequency is weaker shows nothing that could be told again
# Mirroring a picture turns the sign of each odd horizontal frequency.
MIRROR = np.uint64(int("01010101" * SIDE, 2))


def frame_hashes(pictures: Iterable[np.ndarray]) -> list[str | None]:
    """Hash grey pictures ``(h, w)`` of one size.

    Returns:
        For each 64 bits as 16 hexadecimal digits, row by row from the lowest frequency on (the mean, always 0); None
        for a flat one.
    """
    hashes = []
    for picture in pictures:
        height, width = picture.shape
        contrast = picture - picture.mean(dtype=np.float32)
        amplitudes = _cosines(height) @ contrast @ _cosines(width).T  # (8, 8)
        amplitudes[0, 0] = 0  # but for rounding
        bits = np.packbits(amplitudes > 0)
        hashes.append(bits.tobytes().hex() if np.abs(amplitudes).max() >= FLAT else None)
    return hashes


def _cosines(size: int) -> np.ndarray:
    """The lowest rows of the cosine transform, scaled so that amplitudes are grey levels, ``(8, size)``."""
    angles = np.pi / size * np.outer(np.arange(SIDE), np.arange(size) + 0.5)
    return (2 / size * np.cos(angles)).astype(np.float32)
