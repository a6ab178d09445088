"""Frames in the two sizes that the encoders see; without PyTorch, so that a process that decodes starts in no time."""

import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.video.decoding import read_frames

SIDE = 224  # pixels


def as_reader(parent: int) -> None:
    """Make this process one of several that decode for ``parent``: each on a core of its own, and none outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def clip_frames(path: str | Path, digest: str | None, min_frames: int, max_frames: int) -> dict[str, np.ndarray]:
    """Frames of a clip for both encoders, by the model's names for their pixels, each ``(n, 224, 224, 3)`` RGB uint8.

    Args:
        path: The clip.
        digest: SHA-256 that the file should have; None where that does not matter.
        min_frames: See `mobilevideogpt.video.sampling.frame_indices`.
        max_frames: Likewise.

    Raises:
        InputError: If the clip does not decode, or is another by now.
    """
    frames, _, _ = read_frames(path, min_frames, max_frames)
    if digest is not None and file_digest(path) != digest:
        raise InputError(f"{path}: the file changed after it was checked; the same command again checks it anew")
    return {"pixel_values_videos": squeezed(frames), "pixel_values_context": cropped(frames)}


def squeezed(frames: np.ndarray) -> np.ndarray:
    """``(n, H, W, 3)`` as VideoMamba takes them: by OpenCV's bilinear resize to a square, aspect ratio not kept."""
    return np.stack([cv2.resize(frame, (SIDE, SIDE)) for frame in frames])


def cropped(frames: np.ndarray) -> np.ndarray:
    """``(n, H, W, 3)`` as CLIP takes them: Pillow's bicubic resize of the shorter side, then the centre."""
    squares = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(height, width)
        width, height = SIDE * width // short, SIDE * height // short
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        squares.append(np.asarray(resized.crop((left, top, left + SIDE, top + SIDE))))
    return np.stack(squares)
