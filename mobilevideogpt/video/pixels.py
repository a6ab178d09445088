"""Pixels of a clip for both encoders: resized, standardised, and padded with zeros to the model's number of frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilevideogpt.video.frames import SIDE, clip_frames

VIDEO_MEAN, VIDEO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTEXT_MEAN = (0.48145466, 0.4578275, 0.40821073)
CONTEXT_STD = (0.26862954, 0.26130258, 0.27577711)
SCALES = {"pixel_values_videos": (VIDEO_MEAN, VIDEO_STD), "pixel_values_context": (CONTEXT_MEAN, CONTEXT_STD)}


def clip_pixels(path: str | Path, min_frames: int, max_frames: int) -> dict[str, Tensor]:
    """Decode a clip and return its pixels for both encoders, as `standardise` does.

    Raises:
        InputError: If the clip does not decode.
    """
    return standardise(clip_frames(path, None, min_frames, max_frames), max_frames)


def standardise(
    frames: Mapping[str, np.ndarray], num_frames: int, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Scale frames to [0, 1], subtract each encoder's mean and divide by its standard deviation.

    Args:
        frames: RGB frames ``(n, 224, 224, 3)`` uint8 by encoder, as `encoder_frames` returns them.
        num_frames: Length of the result; missing frames are zero.
        device: Where the result is computed.

    Returns:
        Pixels ``(num_frames, 3, 224, 224)`` float32 by encoder.
    """
    return {name: _standardise(frames[name], *scale, num_frames, device) for name, scale in SCALES.items()}


def _standardise(frames: np.ndarray, mean: tuple, std: tuple, num_frames: int, device: str | torch.device) -> Tensor:
    count = len(frames)
    if count > num_frames:
        raise ValueError(f"{count} frames given, the model takes {num_frames}")
    # A table of each channel's 256 values, computed in float64 and rounded once, is faster than arithmetic, and the
    # same on every device.
    rounded = ((np.arange(256)[:, None] / 255 - mean) / std).T.astype(np.float32)  # (3, 256)
    table, levels = torch.from_numpy(rounded).to(device), torch.from_numpy(frames).to(device)
    out = torch.zeros(num_frames, 3, SIDE, SIDE, device=device)
    for channel, values in enumerate(table):
        of_channel = values.index_select(0, levels[..., channel].flatten().int())
        out[:count, channel] = of_channel.view(count, SIDE, SIDE)
    return out
