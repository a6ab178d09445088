"""Frames as the two encoders take them: resized, normalised, and padded with zeros to a full clip."""

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mobilevideogpt.video.decoding import read_frames

SIDE = 224  # pixels
VIDEO_MEAN, VIDEO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTEXT_MEAN = (0.48145466, 0.4578275, 0.40821073)
CONTEXT_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(path: str | Path, min_frames: int, max_frames: int) -> dict[str, Tensor]:
    """Pixels of a clip for both encoders, by the model's names for them, each ``(max_frames, 3, 224, 224)``.

    Raises:
        InputError: If the clip does not decode.
    """
    frames, _, _ = read_frames(path, min_frames, max_frames)
    return {
        "pixel_values_videos": video_pixels(frames, max_frames),
        "pixel_values_context": context_pixels(frames, max_frames),
    }


def video_pixels(frames: np.ndarray, num_frames: int = 16) -> Tensor:
    """Frames for VideoMamba: squeezed to a square by OpenCV's bilinear resize, aspect ratio not kept.

    Args:
        frames: RGB, ``(n, H, W, 3)`` uint8.
        num_frames: Length of the result; missing frames are zero.

    Returns:
        ``(num_frames, 3, 224, 224)`` float32.
    """
    resized = [cv2.resize(frame, (SIDE, SIDE)) for frame in frames]
    return _normalised(resized, VIDEO_MEAN, VIDEO_STD, num_frames)


def context_pixels(frames: np.ndarray, num_frames: int = 16) -> Tensor:
    """Frames for CLIP: Pillow's bicubic resize of the shorter side to 224, then the centre; else as `video_pixels`."""
    cropped = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(height, width)
        width, height = SIDE * width // short, SIDE * height // short
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        cropped.append(np.asarray(resized.crop((left, top, left + SIDE, top + SIDE))))
    return _normalised(cropped, CONTEXT_MEAN, CONTEXT_STD, num_frames)


def _normalised(frames: list[np.ndarray], mean: tuple, std: tuple, num_frames: int) -> Tensor:
    if len(frames) > num_frames:
        raise ValueError(f"{len(frames)} frames given, the model takes {num_frames}")
    # A table of each channel's 256 values, computed in float64 and rounded once, is ten times as fast as arithmetic.
    table = ((np.arange(256)[:, None] / 255 - mean) / std).T.astype(np.float32)  # (3, 256)
    out = np.zeros((num_frames, 3, SIDE, SIDE), np.float32)
    stacked = np.stack(frames)  # (n, 224, 224, 3)
    for channel in range(3):
        np.take(table[channel], stacked[..., channel], out=out[: len(frames), channel], mode="clip")  # "raise" copies
    return torch.from_numpy(out)
