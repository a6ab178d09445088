"""Decode every frame of videos and report what was found: the child process of `clip_check`, which may kill it.

Reads a path a line (JSON) from standard input. Answers with `clip_check_messages` on standard output. FFmpeg's own
error messages go to standard error; the parent counts each as damage, as ``ffmpeg -v error -f null`` would. Ends with
standard input, and in the middle of a clip if its parent ends.
"""

import json
import os
import signal
import sys

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from mobilevideogpt.files import file_digest
from mobilevideogpt.processes import terminate_with_parent
from mobilevideogpt.video.clip_check_messages import Decoded, Kind, Message
from mobilevideogpt.video.decoding import contains_shown_frame, display_matrix, open_video, picture_stream
from mobilevideogpt.video.frame_hashes import frame_hashes
from mobilevideogpt.video.limits import limit_memory

THUMBNAILS = 16  # kept of a clip; at most twice as many while its length is not known
THUMBNAIL_WIDTH = 160  # pixels
HDR = (16, 18)  # transfer characteristics PQ and HLG, ISO 23091-2
GRACE_SECONDS = 5  # the parent acts first


def main(timeout_seconds: float, memory_bytes: int) -> None:
    """Serve until standard input ends.

    Args:
        timeout_seconds: A clip that takes longer ends the process, even if the parent does not kill it.
        memory_bytes: Address space that a clip may take, where the system has such a limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    av.logging.set_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    limit_memory(memory_bytes)
    terminate_with_parent()
    _send(Message(Kind.STARTED, {}))
    for line in sys.stdin:
        path = json.loads(line)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)  # not handled, so that it kills
        _send(Message(Kind.FILE, {"digest": file_digest(path), "bytes": os.path.getsize(path)}))
        try:
            _send(decode_clip(path).to_message())
        except MemoryError:
            _send(Message(Kind.OUT_OF_MEMORY, {}))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _send(message: Message) -> None:
    print(message.to_line(), flush=True)


def decode_clip(path: str) -> Decoded:
    """Decode ``path`` in full; an error of the decoder is a finding.

    Raises:
        MemoryError: If Python or FFmpeg is refused memory.
    """
    found = Decoded()
    try:
        with open_video(path) as container:
            _decode(container, picture_stream(container), found)
    except MemoryError:  # FFmpeg's is a subclass, and an FFmpegError too
        raise
    except (FFmpegError, ValueError) as error:
        found.errors.append(getattr(error, "strerror", None) or str(error))
    return found


def _decode(container: InputContainer, stream: av.VideoStream, found: Decoded) -> None:
    """Decode all frames of a stream and write what they are to ``found``."""
    _read_header(container, stream, found)
    thumbnails = Thumbnails(stream.frames)
    for packet in container.demux(stream):
        found.expected += contains_shown_frame(packet)
        found.hidden += bool(packet.is_discard)
        try:
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    _add_frame(frame, found)
                    thumbnails.offer(frame)
        except MemoryError:
            raise
        except FFmpegError as error:
            found.errors.append(getattr(error, "strerror", None) or repr(error))
    for name, value in quality(thumbnails.pictures).items():
        setattr(found, name, value)
    found.hashes = frame_hashes(thumbnails.pictures)
    found.hash_seconds = thumbnails.step / found.fps if found.fps else None


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
            av.logging.set_level(av.logging.PANIC)  # messages of the conversion are not damage
            self.pictures.append(self._grey.reformat(frame, width, height, "gray").to_ndarray())
            av.logging.set_level(av.logging.ERROR)
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
