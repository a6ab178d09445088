"""Re-encode a clip: H.264, display matrix applied, square pixels, 8-bit 4:2:0, every frame kept. Child of `reencode`.

PyAV does the work, since FFmpeg's command may not be installed; messages to the user name the command.
"""

import contextlib
import json
import math
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import av
from av.filter import Graph

from mobilevideogpt.video.decoding import display_matrix, open_video, picture_stream
from mobilevideogpt.video.limits import limit_memory
from mobilevideogpt.video.reencode_reasons import EVEN, RATE, REENCODINGS, Reason


def child_command(
    path: str | Path,
    target: str | Path,
    reasons: Sequence[Reason],
    fingerprint: str,
    timeout_seconds: float,
    memory_bytes: int,
) -> list[str]:
    """Return the command of a process that runs `reencode` under limits."""
    arguments = json.dumps([str(path), str(target), list(reasons), fingerprint])
    return [sys.executable, "-m", __name__, arguments, str(math.ceil(timeout_seconds)), str(memory_bytes)]


def reencode(path: str | Path, target: str | Path, reasons: Iterable[str], fingerprint: str = "") -> None:
    """Re-encode a clip, without sound.

    Args:
        path: The clip.
        target: The new file, MP4.
        reasons: Values of `Reason`.
        fingerprint: Written into the file, as its comment.

    Raises:
        av.FFmpegError: If the clip does not decode.
    """
    reasons = [Reason(reason) for reason in reasons]
    filters = _filters_of(reasons)
    with open_video(path) as source, av.open(str(target), "w", format="mp4") as sink:
        sink.metadata["comment"] = fingerprint
        stream = picture_stream(source)
        encoder = shown = None
        for picture in _filtered(source.decode(stream), stream, filters):
            if encoder is None:
                rate = RATE if Reason.RATE in reasons else stream.average_rate
                encoder = sink.add_stream("libx264", rate=rate, options={"crf": "18"})
                encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
                if picture.time_base is not None:
                    encoder.codec_context.time_base = picture.time_base
                encoder.codec_context.thread_count = 1
            if shown is not None and picture.pts is not None and picture.pts <= shown:
                picture.pts = shown + 1  # AVI has no times of showing
            shown = picture.pts
            picture.pict_type = 0  # lets the encoder choose; the frame carries the type of the source
            sink.mux(encoder.encode(picture))
        if encoder is not None:
            sink.mux(encoder.encode(None))


def _filters_of(reasons: Iterable[Reason]) -> list[str]:
    chains = [REENCODINGS[reason] for reason in reasons]
    texts = [one.filters if one.pyav_filters is None else one.pyav_filters for one in chains]
    return [name for text in texts if text for name in text.split(",")]


def _filtered(frames: Iterable[av.VideoFrame], stream: av.VideoStream, filters: list[str]) -> Iterator[av.VideoFrame]:
    """Send frames through the filters. Some filters return a frame only after they received the next one."""
    graph = None
    for frame in chain(frames, [None]):
        if frame is not None and graph is None:
            graph = _graph(stream, frame, filters)
        if graph is None:
            return
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):  # FFmpeg's errors are subclasses of these
            while True:
                picture = graph.pull()
                if isinstance(picture, av.VideoFrame):
                    yield picture


def _graph(stream: av.VideoStream, first: av.VideoFrame, filters: list[str]) -> Graph:
    texts = [
        f"scale={first.width}:{first.height}",  # frames of a changing size get that of the first
        f"setsar={stream.sample_aspect_ratio or 1}",
        *_rotation_filters(first),
        *filters,
        EVEN,
        "format=yuv420p",
    ]
    graph = Graph()
    nodes = [graph.add_buffer(template=stream)]
    for text in texts:
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _rotation_filters(frame: av.VideoFrame) -> list[str]:
    """Return the filters that apply a frame's display matrix."""
    a, b, c, d = display_matrix(frame)
    if b:
        return [
            "transpose=" + {(1, -1): "clock", (-1, 1): "cclock", (1, 1): "cclock_flip", (-1, -1): "clock_flip"}[b, c]
        ]
    flips = ["hflip"] * (a < 0) + ["vflip"] * (d < 0)
    if flips or not frame.rotation:
        return flips
    angle = -math.radians(frame.rotation)  # FFmpeg counts anticlockwise, its filter clockwise
    return [f"rotate={angle}:ow=rotw({angle}):oh=roth({angle})"]


if __name__ == "__main__":
    if hasattr(signal, "alarm"):
        signal.alarm(int(sys.argv[2]))  # not handled, so that it kills this process even without its parent
    limit_memory(int(sys.argv[3]))
    reencode(*json.loads(sys.argv[1]))
