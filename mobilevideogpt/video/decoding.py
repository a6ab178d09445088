"""Clips through PyAV: opened safely, their packets counted, their frames decoded as a player shows them.

The clip check, the re-encoding and the report's thumbnails decode this way. The model's frames come from
`frame_reader`, which has the packets counted here.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from mobilevideogpt.errors import InputError
from mobilevideogpt.segments import Segment, file_of, split_segment
from mobilevideogpt.video.sampling import NUM_FRAMES, frame_indices

# Display matrices (a, b, c, d) that rotate by a multiple of 90 degrees, mirrored or not.
RIGHT_ANGLES = {(a, 0, 0, d) for a in (1, -1) for d in (1, -1)} | {(0, b, c, 0) for b in (1, -1) for c in (1, -1)}
# FFmpeg's names of the containers that `mobilevideogpt.paths.VIDEO_SUFFIXES` stand for. Others may be lists of files.
CONTAINERS = ("mov", "matroska", "avi")
SHOWN_VP8 = 0x10  # in the first byte of a frame; RFC 6386, section 9.1


def _unnamed_type(value: object) -> SideDataType:
    """Make a type of side data that PyAV has no name for: EXIF of a camera's JPEGs, the views of spatial video.

    Without it, PyAV raises a ValueError for all side data of such a frame, its display matrix among them.
    """
    member = object.__new__(SideDataType)
    member._name_, member._value_ = f"TYPE_{value}", value
    return member


SideDataType._missing_ = staticmethod(_unnamed_type)


class VideoInfo(NamedTuple):
    """Length, frame rate and size of a clip; the size in pixels, after the display matrix is applied."""

    frames: int
    fps: float
    width: int
    height: int


class Packets(NamedTuple):
    """What the packets of a clip say, without decoding."""

    frames: int  # shown
    fps: float  # average; 0 if unknown
    seekable: bool  # whether decord finds a frame by its number, see `count_packets`
    times: tuple[float, ...] = ()  # when each frame is shown, seconds from the first; empty if unknown

    def range_of(self, segment: Segment | None) -> range:
        """Return the numbers of the frames that are shown in a segment; of the whole file without one."""
        if segment is None:
            return range(self.frames)
        times = self.times or [number / (self.fps or 1.0) for number in range(self.frames)]
        return range(bisect_left(times, segment.start), bisect_left(times, segment.end))

    def positions(self, segment: Segment | None, min_frames: int, max_frames: int) -> list[int]:
        """Return the numbers of the frames that the model receives of a segment; see `frame_indices`.

        Raises:
            ValueError: If no frame is shown in it.
        """
        shown = self.range_of(segment)
        if not shown and segment:
            raise ValueError(f"no frame is shown from {segment.start:g} to {segment.end:g} s")
        return [shown[index] for index in frame_indices(len(shown), self.fps, min_frames, max_frames)]


def file_url(path: str | Path) -> str:
    """Return a path as FFmpeg opens it: as a file, even if its name has a colon."""
    return f"file:{path}"


def open_video(path: str | Path) -> InputContainer:
    """Open a video file of one of `CONTAINERS`. No other file or connection is opened, whatever the file says.

    Raises:
        ValueError: If the container is another one.
        av.FFmpegError: If the file cannot be opened.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        return av.open(file_url(path), options=options)
    except av.error.ArgumentError:
        raise ValueError("its container is none of MP4, MOV, Matroska, WebM and AVI") from None


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
    """Whether a packet contains a shown frame. The last packet is empty, and an edit list hides some frames.

    VP8 stores alternate references, from which other frames are predicted, in packets that show nothing; VP9 puts each
    into the packet of a shown frame.
    """
    if not packet.size or packet.is_discard:
        return False
    is_vp8 = packet.stream.codec_context.codec.name == "vp8"
    return not is_vp8 or bool(bytes(packet)[0] & SHOWN_VP8)


def count_packets(path: str | Path) -> Packets:
    """Read the packets of a clip.

    decord numbers packets by their times, whether they are shown or not, and frames from the last key frame on. The
    numbers are those of the shown frames if every packet is shown at a time of its own, and a key frame comes after all
    frames of the group before it, as in most clips. If not, a reader must start at the first frame.

    Raises:
        ValueError: If there is no video stream that can be decoded, or its container is not one of `CONTAINERS`.
        av.FFmpegError: If the file does not open.
    """
    with open_video(path) as container:
        stream = picture_stream(container)
        packets = [packet for packet in container.demux(stream) if packet.size]
        pictures = [packet for packet in packets if contains_shown_frame(packet)]
        shown = len(pictures)
        starts = sorted(packet.pts for packet in pictures if packet.pts is not None)
        seconds = tuple(float((start - starts[0]) * stream.time_base) for start in starts) if stream.time_base else ()
        times = [packet.pts for packet in packets if packet.pts is not None]
        in_order = sorted(times)
        seekable = (
            container.format.name != "avi"  # has no times of showing
            and shown == len(packets) == len(set(times))
            and all(packet.pts == in_order[i] for i, packet in enumerate(packets) if packet.is_keyframe)
        )
        known = len(seconds) == shown and container.format.name != "avi"
        return Packets(shown, float(stream.average_rate or 0), seekable, seconds if known else ())


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


def decode_at(path: str | Path, positions: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield the frames at ``positions``, which ascend, as they are shown: RGB ``(H, W, 3)`` uint8.

    Raises:
        ValueError: If the clip ends before the last position.
        av.FFmpegError: If it does not decode.
    """
    wanted, converter = iter(positions), VideoReformatter()
    position = next(wanted)
    with open_video(path) as container:
        for i, frame in enumerate(container.decode(picture_stream(container))):
            if i == position:
                yield apply_display_matrix(frame, converter)
                position = next(wanted, None)
                if position is None:
                    return
    raise ValueError(f"it ends before frame {position}")


def read_frames(
    path: str | Path, min_frames: int = NUM_FRAMES, max_frames: int = NUM_FRAMES
) -> tuple[np.ndarray, list[int], VideoInfo]:
    """Decode the frames that `frame_indices` chooses, through PyAV.

    Args:
        path: The clip: a file or a segment of one.
        min_frames: See `frame_indices`.
        max_frames: Likewise.

    Returns:
        RGB frames ``(n, H, W, 3)`` uint8, their positions in the file, and the file's `VideoInfo`.

    Raises:
        InputError: If the file is missing, is not a video or does not decode at these positions.
    """
    require_file(path)
    file, segment = split_segment(path)
    try:
        packets = count_packets(file)
        positions = packets.positions(segment, min_frames, max_frames)
        frames = np.stack(list(decode_at(file, positions)))
    except (FFmpegError, ValueError, MemoryError) as error:
        raise unreadable(path, error) from None
    return frames, positions, VideoInfo(packets.frames, packets.fps, frames.shape[2], frames.shape[1])


def require_file(path: str | Path) -> None:
    """Raise InputError if a clip has no file."""
    if not Path(file_of(path)).is_file():
        raise InputError(f"{path}: there is no such file; correct the path or fetch the clip again")


def unreadable(path: str | Path, error: Exception) -> InputError:
    """Return the error to raise for a clip that does not decode."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(f"{path}: does not decode ({first}); export it again, or leave it out")
