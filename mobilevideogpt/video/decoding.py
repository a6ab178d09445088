"""Frames of a clip at chosen positions, through decord."""

from pathlib import Path
from typing import NamedTuple

import decord
import numpy as np

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.sampling import frame_indices


class VideoInfo(NamedTuple):
    """What the container says of a clip; sizes in pixels."""

    frames: int
    fps: float
    width: int
    height: int


def read_frames(
    path: str | Path, min_frames: int = 16, max_frames: int = 16
) -> tuple[np.ndarray, list[int], VideoInfo]:
    """Decode the frames that `frame_indices` chooses.

    Returns:
        RGB frames ``(n, H, W, 3)`` uint8, their positions, and what the clip is.

    Raises:
        InputError: If the file is missing, is no video or does not decode at these positions.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; correct the path or fetch the clip again")
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        fps = float(reader.get_avg_fps())
        positions = frame_indices(len(reader), fps, min_frames, max_frames)
        frames = reader.get_batch(positions).asnumpy()
    except (decord.DECORDError, RuntimeError, ValueError, IndexError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: does not decode ({first}); export it again or take it out of the manifest") from None
    return frames, positions, VideoInfo(len(reader), fps, frames.shape[2], frames.shape[1])
