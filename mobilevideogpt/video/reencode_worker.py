"""Re-encode a clip that would be shown wrongly: H.264, upright, square pixels, 8-bit 4:2:0, every frame kept.

FFmpeg's command may not be installed, so PyAV does the work; people are told the command.
"""

import contextlib
import json
import math
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import av
from av.filter import Graph

from mobilevideogpt.video.decoding import open_video, picture_stream, turn
from mobilevideogpt.video.limits import limit_memory
from mobilevideogpt.video.reencode_reasons import EVEN, NEEDS


def child_command(
    path: str | Path, target: str | Path, needs: list[str], mark: str, seconds: float, memory_bytes: int
) -> list[str]:
    """Command of a process that runs `reencode` under limits."""
    given = [str(path), str(target), needs, mark]
    return [sys.executable, "-m", __name__, json.dumps(given), str(math.ceil(seconds)), str(memory_bytes)]


def reencode(path: str | Path, target: str | Path, needs: list[str], mark: str = "") -> None:
    """Encode a clip anew, without sound.

    Args:
        path: The clip.
        target: The new file, MP4.
        needs: Keys of `NEEDS`.
        mark: Kept in the file, as its comment.

    Raises:
        av.error.FFmpegError: If it does not decode.
    """
    with open_video(path) as source, av.open(str(target), "w", format="mp4") as sink:
        sink.metadata["comment"] = mark
        stream = picture_stream(source)
        encoder = None
        for picture in _filtered(source.decode(stream), stream, needs):
            if encoder is None:
                encoder = sink.add_stream("libx264", rate=stream.average_rate, options={"crf": "18"})
                encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
                encoder.codec_context.time_base = stream.time_base
                encoder.codec_context.thread_count = 1
            picture.pict_type = 0  # the encoder's choice, not the old one's
            sink.mux(encoder.encode(picture))
        if encoder is not None:
            sink.mux(encoder.encode(None))


def _filtered(frames: Iterable[av.VideoFrame], stream: av.VideoStream, needs: list[str]) -> Iterator[av.VideoFrame]:
    """Send frames through the filters; some of these give a frame only when they have seen the next."""
    graph = None
    for frame in chain(frames, [None]):
        if frame is not None and graph is None:
            graph = _graph(stream, frame, needs)
        if graph is None:
            return
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):  # FFmpeg's errors are of these kinds, too
            while True:
                yield graph.pull()


def _graph(stream: av.VideoStream, first: av.VideoFrame, needs: list[str]) -> Graph:
    filters = _turning(first)
    for need in needs:
        own, shared = NEEDS[need].own_filters, NEEDS[need].filters
        filters += (shared if own is None else own).split(",") if own or shared else []
    aspect = stream.sample_aspect_ratio or 1
    filters = [f"scale={first.width}:{first.height}", f"setsar={aspect}", *filters, EVEN, "format=yuv420p"]
    graph = Graph()
    nodes = [graph.add_buffer(template=stream)]
    for text in filters:
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _turning(frame: av.VideoFrame) -> list[str]:
    """Filters that turn a frame upright."""
    a, b, c, d = turn(frame)
    if b:
        return [
            "transpose=" + {(1, -1): "clock", (-1, 1): "cclock", (1, 1): "cclock_flip", (-1, -1): "clock_flip"}[b, c]
        ]
    right = ["hflip"] * (a < 0) + ["vflip"] * (d < 0)
    if right or not frame.rotation:
        return right
    angle = -math.radians(frame.rotation)  # FFmpeg counts anticlockwise, its filter clockwise
    return [f"rotate={angle}:ow=rotw({angle}):oh=roth({angle})"]


if __name__ == "__main__":
    if hasattr(signal, "alarm"):
        signal.alarm(int(sys.argv[2]))  # not handled, so that it kills, though the parent be gone
    limit_memory(int(sys.argv[3]))
    reencode(*json.loads(sys.argv[1]))
