"""Frames of a clip at the size of each encoder. Without PyTorch, so that a process that decodes starts quickly."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.segments import file_of
from mobilevideogpt.video.frame_reader import model_frames

SIDE = 224  # pixels; a test keeps it equal to MobileVideoGPTConfig.image_size, which this room must not import


def clip_frames(path: str | Path, digest: str | None, min_frames: int, max_frames: int) -> dict[str, np.ndarray]:
    """Read the model's frames of a clip and return `encoder_frames` of them; few are in memory at a time.

    Args:
        path: The clip: a file or a segment of one.
        digest: Expected SHA-256 of the file; None skips the comparison.
        min_frames: See `mobilevideogpt.video.sampling.frame_indices`.
        max_frames: Likewise.

    Raises:
        InputError: If the clip does not decode, or its digest differs.
    """
    frames = encoder_frames(model_frames(path, min_frames, max_frames))
    if digest is not None and file_digest(file_of(path)) != digest:
        raise InputError(f"{path}: the file changed after it was checked; run the same command again")
    return frames


def encoder_frames(frames: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Resize RGB frames ``(H, W, 3)`` uint8 for both encoders, one after the other.

    Returns:
        Frames ``(n, 224, 224, 3)`` uint8 by the model's names for the pixels of each encoder.
    """
    squares, crops = zip(*((resize(frame), resize_and_centre_crop(frame)) for frame in frames), strict=True)
    return {"pixel_values_videos": np.stack(squares), "pixel_values_context": np.stack(crops)}


def resize(frame: np.ndarray) -> np.ndarray:
    """Resize ``(H, W, 3)`` for VideoMamba: bilinear (OpenCV), to a square, whatever the aspect ratio."""
    return cv2.resize(frame, (SIDE, SIDE))


def resize_and_centre_crop(frame: np.ndarray) -> np.ndarray:
    """Resize ``(H, W, 3)`` for CLIP: bicubic (Pillow's), shorter side to 224; then crop the centre."""
    from mobilevideogpt.video.resampling import bicubic_part  # loads Numba, which a training on features does not need

    height, width = frame.shape[:2]
    short = min(height, width)
    width, height = SIDE * width // short, SIDE * height // short
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    return bicubic_part(frame, width, height, left, top, SIDE)
