"""Frames of a clip at chosen positions, as a player shows them, through PyAV. The clip check runs the same decoder.

The original code reads through decord; the frames of 8-bit clips are the same to the bit (``benchmarks/decoders.py``).
"""

import struct
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.sampling import NUM_FRAMES, frame_indices

# Display matrices (a, b, c, d) that rotate by a multiple of 90 degrees, mirrored or not.
RIGHT_ANGLES = {(a, 0, 0, d) for a in (1, -1) for d in (1, -1)} | {(0, b, c, 0) for b in (1, -1) for c in (1, -1)}


class VideoInfo(NamedTuple):
    """Length, frame rate and size of a clip; the size in pixels, after the display matrix is applied."""

    frames: int
    fps: float
    width: int
    height: int


def open_video(path: str | Path) -> InputContainer:
    """Open a video file. The protocol list keeps a disguised playlist from opening other files or connections."""
    return av.open(str(path), options={"protocol_whitelist": "file"})


def picture_stream(container: InputContainer) -> av.VideoStream:
    """Return the stream that a player shows, as opposed to a cover picture.

    Raises:
        ValueError: If no stream is a video, or its codec is unknown.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise ValueError("there is no video stream")
    if stream.codec_context is None:
        raise ValueError("the codec of its video stream is unknown")
    stream.codec_context.thread_count = 1  # callers decode many clips at a time
    return stream


def contains_shown_frame(packet: av.Packet) -> bool:
    """Whether a packet contains a shown frame. An edit list hides some frames, and the last packet is empty."""
    return bool(packet.size) and not packet.is_discard


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return the signs ``(a, b, c, d)`` of a frame's display matrix.

    A pixel at (x, y) is shown at (ax + cy, bx + dy), as in ISO 14496-12. Phones store an upright clip as a landscape
    one with such a matrix. (1, 0, 0, 1) is the identity; it also replaces a matrix of any other angle.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = ((value > 0) - (value < 0) for value in struct.unpack("=9i", bytes(matrix)))
    return (a, b, c, d) if (a, b, c, d) in RIGHT_ANGLES else (1, 0, 0, 1)


def apply_display_matrix(frame: av.VideoFrame, converter: VideoReformatter) -> np.ndarray:
    """Return a frame as it is shown, RGB ``(H, W, 3)`` uint8.

    Args:
        frame: The decoded frame.
        converter: One for all frames of a clip; it prepares itself once for frames of one format.
    """
    picture = converter.reformat(frame, format="rgb24").to_ndarray()
    a, b, c, d = display_matrix(frame)
    picture = picture[::d, ::a] if a else picture.transpose(1, 0, 2)[::b, ::c]
    return np.ascontiguousarray(picture)  # OpenCV requires it


def read_frames(
    path: str | Path, min_frames: int = NUM_FRAMES, max_frames: int = NUM_FRAMES
) -> tuple[np.ndarray, list[int], VideoInfo]:
    """Decode the frames that `frame_indices` chooses.

    Returns:
        RGB frames ``(n, H, W, 3)`` uint8, their positions, and the clip's `VideoInfo`.

    Raises:
        InputError: If the file is missing, is not a video or does not decode at these positions.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file; correct the path or fetch the clip again")
    try:
        with open_video(path) as container:
            stream = picture_stream(container)
            count = sum(map(contains_shown_frame, container.demux(stream)))
            fps = float(stream.average_rate or 0)
        positions = frame_indices(count, fps, min_frames, max_frames)
        with open_video(path) as container:
            frames = _decode_at(container, positions)
    except (FFmpegError, ValueError, MemoryError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: does not decode ({first}); export it again or take it out of the manifest") from None
    return frames, positions, VideoInfo(count, fps, frames.shape[2], frames.shape[1])


def _decode_at(container: InputContainer, positions: list[int]) -> np.ndarray:
    """Decode up to the last of ``positions``, which ascend; only the frames at these positions are converted."""
    wanted, pictures, converter = iter(positions), [], VideoReformatter()
    position = next(wanted)
    for i, frame in enumerate(container.decode(picture_stream(container))):
        if i == position:
            pictures.append(apply_display_matrix(frame, converter))
            position = next(wanted, None)
            if position is None:
                return np.stack(pictures)
    raise ValueError(f"it ends before frame {position}")
