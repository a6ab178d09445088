"""Re-encode a clip that would be shown wrongly: H.264, upright, square pixels, 8-bit 4:2:0, every frame kept.

FFmpeg's command may not be installed, so PyAV does the work; people are told the command.
"""

import contextlib
import json
import math
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
from av.filter import Graph

from mobilevideogpt.video.decoding import open_video, picture_stream, turn
from mobilevideogpt.video.limits import limit_memory


class Need(NamedTuple):
    """Why a clip is encoded anew, and by which filters of FFmpeg."""

    problem: str  # what is said of the clip
    filters: str = ""
    own_filters: str | None = None  # for PyAV's FFmpeg, where they are others


NEEDS = {
    "interlaced": Need("is interlaced: moving edges look like combs", "yadif"),
    "oblique": Need("is turned by no right angle, which is not applied"),  # FFmpeg's command turns by itself
    "pixels": Need("has pixels that are not square: bodies look squeezed", "scale=iw*sar:ih,setsar=1"),
    "hdr": Need(
        "has HDR colours, which look dull and flat",
        "zscale=t=linear:npl=100,tonemap=hable,zscale=t=bt709:m=bt709:p=bt709:r=tv,format=yuv420p",
        "scale=out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709,format=yuv420p",  # FFmpeg 8 and later
    ),
    "large": Need(
        "has frames larger than the 9.4 million pixels that are decoded at a fair cost",
        "scale=1920:1920:force_original_aspect_ratio=decrease",
    ),
    "size": Need("changes its frame size on the way"),
    "decoder": Need(""),  # it took too long or too much
}
# H.264 with halved chroma has even sides; frames of another size are brought to that of the first.
_EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"


def command(path: str | Path, needs: list[str]) -> str:
    """FFmpeg's command for `reencode`, for a person to run; it turns the frames of itself."""
    path = Path(path)
    filters = ",".join([*(NEEDS[need].filters for need in needs if NEEDS[need].filters), _EVEN])
    target = path.with_name(f"{path.stem}-reencoded.mp4")
    source = f"./{path}" if str(path).startswith("-") else str(path)
    return (
        f"ffmpeg -i {shlex.quote(source)} -vf {shlex.quote(filters)} -c:v libx264 -crf 18 -pix_fmt yuv420p -an "
        f"{shlex.quote(str(target))}"
    )


def child_command(
    path: str | Path, target: str | Path, needs: list[str], mark: str, seconds: float, memory_bytes: int
) -> list[str]:
    """Command of a process that runs `reencode` under limits."""
    given = [str(path), str(target), needs, mark]
    return [sys.executable, "-m", __name__, json.dumps(given), str(math.ceil(seconds)), str(memory_bytes)]


def reencode(path: str | Path, target: str | Path, needs: list[str], mark: str = "") -> None:
    """Encode a clip anew, without sound; the same bytes each time.

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
    filters = [f"scale={first.width}:{first.height}", f"setsar={aspect}", *filters, _EVEN, "format=yuv420p"]
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
