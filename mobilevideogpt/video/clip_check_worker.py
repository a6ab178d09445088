"""Decode every frame of videos and report what was found: the child process of `clip_check`, which may kill it.

PyAV decodes a clip in full; then decord reads frames of the model (`frame_reader`), which must show the same.

Reads a path a line (JSON), with the segments in use, from standard input. Answers with `clip_check_messages` on
standard output. FFmpeg's own error messages go to standard error; the parent counts each as damage, as ``ffmpeg -v
error -f null`` would. Ends with standard input, and in the middle of a clip if its parent ends.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise, takewhile

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from mobilevideogpt.files import file_digest
from mobilevideogpt.processes import terminate_with_parent
from mobilevideogpt.segments import Segment
from mobilevideogpt.video.clip_check_messages import Decoded, Kind, Message, Seen
from mobilevideogpt.video.decoding import (
    Packets,
    apply_display_matrix,
    contains_shown_frame,
    count_packets,
    display_matrix,
    open_video,
    picture_stream,
)
from mobilevideogpt.video.frame_hashes import frame_hashes
from mobilevideogpt.video.frame_reader import frames_at
from mobilevideogpt.video.limits import limit_memory
from mobilevideogpt.video.sampling import NUM_FRAMES, seen_share

THUMBNAILS = 16  # kept of a clip; at most twice as many while its length is not known
THUMBNAIL_WIDTH = 160  # pixels
HDR = (16, 18)  # transfer characteristics PQ and HLG, ISO 23091-2
GRACE_SECONDS = 5  # the parent acts first
SAMPLE_SIDE = 240  # pixels; frames are compared at up to twice as many along each edge, so that few bytes are kept
# Of a plain clip, in which every frame is alike in form and decord only decodes onwards, the frames of this first part
# are compared: they take two fifths of a second decoding. Of any other clip, all frames of the model are compared.
PLAIN_PART = 0.4


def main(timeout_seconds: float, memory_bytes: int) -> None:
    """Serve until standard input ends.

    Args:
        timeout_seconds: A clip that takes longer ends the process, even if the parent does not kill it.
        memory_bytes: Address space that a clip may take, where the system has such a limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)  # what that callback prints
    limit_memory(memory_bytes)
    threading.excepthook = _end_process
    terminate_with_parent()
    _send(Message(Kind.STARTED, {}))
    for line in sys.stdin:
        path, segments = json.loads(line)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)  # not handled, so that it kills
        _send(Message(Kind.FILE, {"digest": file_digest(path), "bytes": os.path.getsize(path)}))
        try:
            _send(decode_clip(path, [Segment(*segment) for segment in segments]).to_message())
        except MemoryError:
            _send(Message(Kind.OUT_OF_MEMORY, {}))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _end_process(_) -> None:
    """End the process where a thread of its own fails: on standard error, that would count as damage of the clip."""
    os.kill(os.getpid(), signal.SIGTERM)


def _send(message: Message) -> None:
    print(message.to_line(), flush=True)


def decode_clip(path: str, segments: Sequence[Segment] = ()) -> Decoded:
    """Decode ``path`` in full, and read frames of it as the training does; an error of the decoder is a finding.

    Args:
        path: The file.
        segments: Those in use; none if the clip is the whole file.

    Raises:
        MemoryError: If Python or FFmpeg is refused memory.
    """
    found, frames = Decoded(), DecodedFrames(_packets(path), segments)
    try:
        with open_video(path) as container:
            _decode(container, picture_stream(container), found, frames)
    except MemoryError:  # FFmpeg's is a subclass, and an FFmpegError too
        raise
    except (FFmpegError, ValueError) as error:
        found.errors.append(getattr(error, "strerror", None) or str(error))
    if not found.errors and frames.complete and not found.size_changes:
        _compare(path, frames, found)
    return found


def _packets(path: str) -> Packets:
    """Count packets; none if they cannot be read, which the decoding will report."""
    try:
        with ffmpeg_unlogged():
            return count_packets(path)
    except MemoryError:
        raise
    except (FFmpegError, ValueError):
        return Packets(0, 0.0, False)


def _decode(container: InputContainer, stream: av.VideoStream, found: Decoded, frames: "DecodedFrames") -> None:
    """Decode all frames of a stream and write what they are to ``found`` and ``frames``."""
    _read_header(container, stream, found)
    thumbnails = Thumbnails(stream.frames)
    for packet in container.demux(stream):
        found.expected += contains_shown_frame(packet)
        found.hidden += bool(packet.size) and not contains_shown_frame(packet)
        try:
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    _add_frame(frame, found)
                    thumbnails.offer(frame)
                    frames.offer(frame)
        except MemoryError:
            raise
        except FFmpegError as error:
            found.errors.append(getattr(error, "strerror", None) or repr(error))
    for name, value in quality(thumbnails.pictures).items():
        setattr(found, name, value)
    found.hashes = frame_hashes(thumbnails.pictures)
    found.hash_seconds = thumbnails.step / found.fps if found.fps else None
    frames.write_shares(found)


def _compare(path: str, frames: "DecodedFrames", found: Decoded) -> None:
    """Read frames as the training does and write to ``found`` how they differ from those decoded here."""
    packets = frames.packets
    plain = packets.seekable and frames.plain and frames.segments == [None]
    last = PLAIN_PART * packets.frames if plain else packets.frames
    positions = list(takewhile(lambda position: position <= last, frames.positions))
    difference = 0.0
    try:
        with unlogged():
            for read, decoded in zip(frames_at(path, positions, packets), frames.samples, strict=False):
                difference = max(difference, _difference(_sample(read), decoded))
    except ValueError as error:
        found.reader_error = str(error)
    else:
        found.reader_difference = round(difference, 3)


def _sample(picture: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the size of a picture ``(H, W, 3)`` and its pixels on an even grid."""
    down, across = (max(1, side // SAMPLE_SIDE) for side in picture.shape[:2])
    return picture.shape, picture[::down, ::across].copy()


def _difference(one: tuple, other: tuple) -> float:
    """Return the mean absolute difference of two samples, 0 to 255; that of pictures of two sizes is the largest."""
    if one[0] != other[0]:
        return 255.0
    return float(np.abs(one[1].astype(np.int16) - other[1]).mean())


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Silence standard error, where decord writes what its exceptions say: the parent counts messages as damage."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def ffmpeg_unlogged() -> Iterator[None]:
    """Silence PyAV's FFmpeg: messages of a conversion, or of a second reading, are not damage."""
    av.logging.set_libav_level(av.logging.PANIC)
    try:
        yield
    finally:
        av.logging.set_libav_level(av.logging.ERROR)


class DecodedFrames:
    """Samples of the frames that the model receives, and the times of all frames.

    Attributes:
        packets: Of the clip.
        segments: Those in use, or None alone for the whole file.
        positions: Numbers of the model's frames, of all segments.
        samples: Of these frames, as they are shown.
        plain: Whether all frames so far are of one form, of 8 bits, stored as they are shown, so that decord, which
            prepares its filters once, treats them alike.
    """

    def __init__(self, packets: Packets, segments: Sequence[Segment] = ()):
        self.packets = packets
        self.segments = [segment for segment in segments or (None,) if packets.range_of(segment)]
        self.positions = sorted({position for segment in self.segments for position in self._positions_of(segment)})
        self.samples: list[tuple] = []
        self.plain = True
        self._times: list[float] = []
        self._form: tuple | None = None
        self._wanted = frozenset(self.positions)
        self._converter = VideoReformatter()

    def _positions_of(self, segment: Segment | None) -> list[int]:
        return self.packets.positions(segment, NUM_FRAMES, NUM_FRAMES)

    @property
    def complete(self) -> bool:
        """Whether all frames at `positions` were offered."""
        return bool(self.samples) and len(self.samples) == len(self.positions)

    def offer(self, frame: av.VideoFrame) -> None:
        """Take note of the next frame."""
        form = frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range, frame.rotation
        if self._form is None:
            self._form = form
            self.plain = display_matrix(frame) == (1, 0, 0, 1) and not frame.rotation and _bits(frame) <= 8
        self.plain &= form == self._form
        if len(self._times) in self._wanted:
            with ffmpeg_unlogged():
                self.samples.append(_sample(apply_display_matrix(frame, self._converter)))
        self._times.append(frame.time if frame.time is not None else float("nan"))

    def write_shares(self, found: Decoded) -> None:
        """Write which share of the time the model sees, of the file or of each segment."""
        count, fps = len(self._times), self.packets.fps or 1.0
        if not self.complete:
            return
        times, even = self._times, [i / fps for i in range(count)]
        if all(later > earlier for earlier, later in pairwise(times)):
            step = (times[-1] - times[0]) / max(1, count - 1)
            even = [i * step for i in range(count)]
        else:  # missing, or those of packets: AVI
            times = even
        for segment in self.segments:
            shown, positions = self.packets.range_of(segment), self._positions_of(segment)
            within = [position - shown.start for position in positions]
            shares = (round(seen_share(each[shown.start : shown.stop], within), 3) for each in (times, even))
            seen = Seen(len(shown), *shares, first_only=len(shown) > len(within) == within[-1] + 1)
            if segment:
                found.segments[str(segment)] = asdict(seen)
            else:
                found.seen, found.seen_evenly, found.first_only = seen.seen, seen.seen_evenly, seen.first_only


def _bits(frame: av.VideoFrame) -> int:
    return max(component.bits for component in frame.format.components)


def _read_header(container: InputContainer, stream: av.VideoStream, found: Decoded) -> None:
    context, rate, aspect = stream.codec_context, stream.average_rate, stream.sample_aspect_ratio
    found.container = container.format.name
    found.codec = context.codec.canonical_name
    found.width, found.height = context.width, context.height
    found.pixel_aspect = float(aspect) if aspect else 1.0
    found.frames_declared = stream.frames or None
    found.fps = float(rate) if rate else None
    found.seconds = container.duration / av.time_base if container.duration else None


def _add_frame(frame: av.VideoFrame, found: Decoded) -> None:
    if not found.frames:
        found.rotation = frame.rotation
        found.oblique = bool(frame.rotation) and display_matrix(frame) == (1, 0, 0, 1)
        found.hdr = int(frame.color_trc) in HDR
        found.width, found.height = frame.width, frame.height
    found.size_changes |= (frame.width, frame.height) != (found.width, found.height)
    found.interlaced |= bool(frame.interlaced_frame)
    found.corrupt += bool(frame.is_corrupt)
    found.frames += 1


class Thumbnails:
    """Small grey copies of frames spread evenly over a clip.

    Args:
        declared: Frames that the header declares, or 0 if unknown, which costs more work for the same thumbnails. A
            clip with far fewer frames than declared gets fewer thumbnails.
    """

    def __init__(self, declared: int):
        self.pictures: list[np.ndarray] = []  # (h, w) uint8, all of one size
        self.step, self._seen = 1, 0  # frames from one picture to the next
        while self.step * 2 * THUMBNAILS <= declared:
            self.step *= 2
        self._size = (0, 0)
        self._grey = VideoReformatter()  # prepares its conversion once; a frame's own would do so for each frame

    def offer(self, frame: av.VideoFrame) -> None:
        """Keep a thumbnail of every ``step``-th frame."""
        if self._seen == 0:
            width = min(frame.width, THUMBNAIL_WIDTH)
            self._size = width, max(1, round(frame.height * width / frame.width))
        if self._seen % self.step == 0:
            width, height = self._size
            with ffmpeg_unlogged():
                self.pictures.append(self._grey.reformat(frame, width, height, "gray").to_ndarray())
            if len(self.pictures) == 2 * THUMBNAILS:
                del self.pictures[1::2]
                self.step *= 2
        self._seen += 1


def quality(pictures: list[np.ndarray]) -> dict[str, float | None]:
    """Measure thumbnails ``(h, w)`` uint8. A measure is None if they are too few or too small for it.

    Returns:
        ``brightness``, mean luma from 0 to 255; ``sharpness``, mean variance of the Laplacian, the usual measure of
        focus (Pech-Pacheco et al., 2000); ``motion``, mean absolute difference of consecutive thumbnails.
    """
    found: dict[str, float | None] = dict.fromkeys(("brightness", "sharpness", "motion"))
    if not pictures:
        return found
    grey = np.stack(pictures).astype(np.float32)  # (n, h, w)
    found["brightness"] = float(grey.mean())
    if len(grey) > 1:
        found["motion"] = float(np.abs(np.diff(grey, axis=0)).mean())
    if min(grey.shape[1:]) > 2:
        inner = grey[:, 1:-1, 1:-1]
        laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
        found["sharpness"] = float(laplacian.var((1, 2)).mean())
    return {name: value if value is None else round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
