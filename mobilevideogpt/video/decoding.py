"""Frames of a clip at chosen positions, upright, through PyAV: the decoder that the integrity check runs, too.

The original code reads through decord; the frames of 8-bit clips are the same to the bit (``benchmarks/decoders.py``).
"""

import struct
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.sampling import frame_indices


class VideoInfo(NamedTuple):
    """What a clip is; sizes in pixels, as it is shown."""

    frames: int
    fps: float
    width: int
    height: int


def open_video(path: str | Path) -> InputContainer:
    """Open a video file. A file is data: a playlist in disguise may open no other file and no connection."""
    return av.open(str(path), options={"protocol_whitelist": "file"})


def picture_stream(container: InputContainer) -> av.VideoStream:
    """Return the stream that a player shows, not a cover picture beside it.

    Raises:
        ValueError: If there is none, or none that can be decoded.
    """
    stream = container.streams.best("video")
    if stream is None:
        raise ValueError("there is no video stream")
    if stream.codec_context is None:
        raise ValueError("the codec of its video stream is unknown")
    stream.codec_context.thread_count = 1  # callers decode many clips at a time
    return stream


def holds_frame(packet: av.Packet) -> bool:
    """Whether a packet holds a frame that is shown; an edit list hides some, and the last packet of all is empty."""
    return bool(packet.size) and not packet.is_discard


def turn(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """How a frame must be turned to stand upright, as the signs ``(a, b, c, d)`` of its display matrix.

    A pixel at (x, y) is shown at (ax + cy, bx + dy), as in ISO 14496-12. Phones film upright clips as lying ones with
    such a matrix. (1, 0, 0, 1) is a frame that is stored as it is shown, or one that is turned by no right angle.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return signs if signs in RIGHT_ANGLES else (1, 0, 0, 1)


RIGHT_ANGLES = {(a, 0, 0, d) for a in (1, -1) for d in (1, -1)} | {(0, b, c, 0) for b in (1, -1) for c in (1, -1)}


def upright(frame: av.VideoFrame, converter: VideoReformatter) -> np.ndarray:
    """Return a frame as it is shown, RGB ``(H, W, 3)`` uint8; a converter prepares itself once for frames alike."""
    picture = converter.reformat(frame, format="rgb24").to_ndarray()
    a, b, c, d = turn(frame)
    picture = picture[::d, ::a] if a else picture.transpose(1, 0, 2)[::b, ::c]
    return np.ascontiguousarray(picture)  # as OpenCV wants it


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
        with open_video(path) as container:
            stream = picture_stream(container)
            count = sum(map(holds_frame, container.demux(stream)))
            fps = float(stream.average_rate or 0)
        positions = frame_indices(count, fps, min_frames, max_frames)
        with open_video(path) as container:
            frames = _at(container, positions)
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: does not decode ({first}); export it again or take it out of the manifest") from None
    return frames, positions, VideoInfo(count, fps, frames.shape[2], frames.shape[1])


def _at(container: InputContainer, positions: list[int]) -> np.ndarray:
    """Decode to the last of ``positions``, which ascend; only the frames there become pictures."""
    wanted, pictures, converter = iter(positions), [], VideoReformatter()
    position = next(wanted)
    for i, frame in enumerate(container.decode(picture_stream(container))):
        if i == position:
            pictures.append(upright(frame, converter))
            position = next(wanted, None)
            if position is None:
                return np.stack(pictures)
    raise ValueError(f"it ends before frame {position}")
