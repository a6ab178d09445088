"""Pixels of a clip for both encoders: resized, standardised, and padded with zeros to the model's number of frames."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
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
    """Decode a clip and return its pixels ``(max_frames, 3, 224, 224)`` for both encoders, see `standardise`.

    Raises:
        InputError: If the clip does not decode.
    """
    batch = standardise([clip_frames(path, None, min_frames, max_frames)], max_frames)
    return {name: pixels[0] for name, pixels in batch.items()}


def standardise(
    clips: Sequence[Mapping[str, np.ndarray]], num_frames: int, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Scale frames to [0, 1], subtract each encoder's mean and divide by its standard deviation.

    Args:
        clips: RGB frames ``(n, 224, 224, 3)`` uint8 of each clip by encoder, as `encoder_frames` returns them.
        num_frames: Of each clip in the result; missing frames are zero.
        device: Where the result is computed.

    Returns:
        Pixels ``(clips, num_frames, 3, 224, 224)`` float32 by encoder.

    Raises:
        ValueError: If a clip has more frames.
    """
    device = torch.device(device)
    return {
        name: _standardise([frames[name] for frames in clips], *scale, num_frames, device)
        for name, scale in SCALES.items()
    }


def _standardise(clips: list[np.ndarray], mean: tuple, std: tuple, num_frames: int, device: torch.device) -> Tensor:
    longest = max(map(len, clips))
    if longest > num_frames:
        raise ValueError(f"{longest} frames given, the model takes {num_frames}")
    on_host = torch.empty(len(clips), num_frames, SIDE, SIDE, 3, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for frames, levels in zip(clips, on_host.numpy(), strict=True):
        levels[: len(frames)], levels[len(frames) :] = frames, 0
    levels = on_host.to(device, non_blocking=True)
    out = torch.empty(len(clips), num_frames, 3, SIDE, SIDE, device=device)
    for channel, values in enumerate(_table(mean, std, device)):
        of_channel = values.index_select(0, levels[..., channel].flatten().int())
        out[:, :, channel] = of_channel.view(len(clips), num_frames, SIDE, SIDE)
    for frames, pixels in zip(clips, out, strict=True):
        pixels[len(frames) :] = 0
    return out


@lru_cache(maxsize=16)
def _table(mean: tuple, std: tuple, device: torch.device) -> Tensor:
    """Return the standardised values ``(3, 256)`` float32 of each channel's levels.

    Computed in float64 and rounded once, they are the same on every device, and faster than arithmetic. They stay on
    the device, as to copy them there would wait until its work is done.
    """
    table = ((np.arange(256)[:, None] / 255 - mean) / std).T.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(table)).to(device)
