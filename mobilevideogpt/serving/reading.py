"""Frames of clips, read ahead by other processes. Without PyTorch, so that these start quickly."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from mobilevideogpt.data.frame_bounds import FrameBounds
from mobilevideogpt.errors import InputError
from mobilevideogpt.segments import file_of
from mobilevideogpt.video.decoding_pool import DecodingPool
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.limits import limit_memory

Frames = dict[str, np.ndarray]
MEMORY_BYTES = 4_000_000_000  # that a process may take to decode a file that somebody sent


def read_or_explain(path: str | Path, min_frames: int, max_frames: int) -> Frames | InputError:
    """Return what `clip_frames` does; for a clip that does not decode, the error, so that other clips are answered."""
    try:
        return clip_frames(path, None, min_frames, max_frames)
    except InputError as error:
        return error


@contextmanager
def frames_ahead(clips: Sequence[str], bounds: FrameBounds, workers: int, depth: int) -> Iterator[Iterator]:
    """Yield an iterator over the frames of clips, or the error of a clip, in order; a single clip is read here.

    Args:
        clips: The clips.
        bounds: How many frames of each.
        workers: Processes that decode.
        depth: Clips that are read ahead.
    """
    if len(clips) == 1:
        yield iter([read_or_explain(clips[0], *bounds)])
        return
    with DecodingPool(min(workers, len(clips) or 1)) as pool:
        yield pool.map_ahead(read_or_explain, [(clip, *bounds) for clip in clips], depth)


def read_sent_file(path: str, bounds: FrameBounds, max_seconds: float) -> Frames:
    """Read the frames of a file that somebody sent; runs in a process of its own, whose memory is limited.

    Raises:
        InputError: If the file is not a video, or too long.
    """
    limit_memory(MEMORY_BYTES)
    try:
        with av.open(file_of(path), metadata_errors="ignore") as file:
            if not file.streams.video:
                raise InputError("this file contains no video; choose an MP4, MOV or WebM file")
            stream = file.streams.video[0]
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
            seconds = seconds or (file.duration or 0) / av.time_base
    except (FFmpegError, OSError, ValueError):
        raise InputError("this file is not a video; choose an MP4, MOV or WebM file") from None
    if seconds > max_seconds:
        raise InputError(f"the clip is {seconds:.0f} seconds long; cut it to at most {max_seconds:g} seconds")
    return clip_frames(path, None, *bounds)
