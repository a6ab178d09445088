"""Perceptual hashes of frames: close for pictures that look alike, whatever their size, encoding and brightness.

As in pHash (Zauner, 2010), a bit is the sign of a low frequency of the cosine transform. pHash compares with the
median; a sign lets the hash of the mirrored picture follow from that of the picture.
"""

from collections.abc import Iterable

import numpy as np

SIDE = 8  # frequencies along each edge
FLAT = 1.0  # grey levels; a picture whose strongest frequency is weaker is flat and gets no hash
# Mirroring a picture turns the sign of each odd horizontal frequency.
MIRROR = np.uint64(int("01010101" * SIDE, 2))


def frame_hashes(pictures: Iterable[np.ndarray]) -> list[str | None]:
    """Hash grey pictures ``(h, w)`` of one size.

    Returns:
        64 bits of each picture as 16 hexadecimal digits, row by row from the lowest frequency (the mean, always 0);
        None for a flat picture.
    """
    hashes = []
    for picture in pictures:
        height, width = picture.shape
        contrast = picture - picture.mean(dtype=np.float32)
        amplitudes = _cosines(height) @ contrast @ _cosines(width).T  # (8, 8)
        amplitudes[0, 0] = 0  # exactly; rounding leaves a residue
        bits = np.packbits(amplitudes > 0)
        hashes.append(bits.tobytes().hex() if np.abs(amplitudes).max() >= FLAT else None)
    return hashes


def _cosines(size: int) -> np.ndarray:
    """Return the lowest rows of the cosine transform, ``(8, size)``, scaled so that amplitudes are grey levels."""
    angles = np.pi / size * np.outer(np.arange(SIDE), np.arange(size) + 0.5)
    return (2 / size * np.cos(angles)).astype(np.float32)
