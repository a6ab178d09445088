"""Frames of a clip at the size of each encoder. Without PyTorch, so that a process that decodes starts quickly."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.video.decoding import read_frames

SIDE = 224  # pixels; a test keeps it equal to MobileVideoGPTConfig.image_size, which this room must not import


def clip_frames(path: str | Path, digest: str | None, min_frames: int, max_frames: int) -> dict[str, np.ndarray]:
    """Decode a clip and return `encoder_frames` of it.

    Args:
        path: The clip.
        digest: Expected SHA-256 of the file; None skips the comparison.
        min_frames: See `mobilevideogpt.video.sampling.frame_indices`.
        max_frames: Likewise.

    Raises:
        InputError: If the clip does not decode, or its digest differs.
    """
    frames, _, _ = read_frames(path, min_frames, max_frames)
    if digest is not None and file_digest(path) != digest:
        raise InputError(f"{path}: the file changed after it was checked; run the same command again")
    return encoder_frames(frames)


def encoder_frames(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Resize RGB frames ``(n, H, W, 3)`` uint8 for both encoders.

    Returns:
        Frames ``(n, 224, 224, 3)`` uint8 by the model's names for the pixels of each encoder.
    """
    return {"pixel_values_videos": resize(frames), "pixel_values_context": resize_and_centre_crop(frames)}


def resize(frames: np.ndarray) -> np.ndarray:
    """Resize ``(n, H, W, 3)`` for VideoMamba: bilinear (OpenCV), to a square, whatever the aspect ratio."""
    return np.stack([cv2.resize(frame, (SIDE, SIDE)) for frame in frames])


def resize_and_centre_crop(frames: np.ndarray) -> np.ndarray:
    """Resize ``(n, H, W, 3)`` for CLIP: bicubic (Pillow), shorter side to 224; then crop the centre."""
    squares = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(height, width)
        width, height = SIDE * width // short, SIDE * height // short
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        squares.append(np.asarray(resized.crop((left, top, left + SIDE, top + SIDE))))
    return np.stack(squares)
