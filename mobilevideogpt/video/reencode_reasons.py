"""Why a clip is encoded anew, in words and as FFmpeg's filters. Standard library only."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


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
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"


def command(path: str | Path, needs: Iterable[str]) -> str:
    """FFmpeg's command for what `normalise.reencode` does, for a person to run; it turns the frames of itself."""
    path = Path(path)
    filters = ",".join([*(NEEDS[need].filters for need in needs if NEEDS[need].filters), EVEN])
    target = path.with_name(f"{path.stem}-reencoded.mp4")
    source = f"./{path}" if str(path).startswith("-") else str(path)
    return (
        f"ffmpeg -i {shlex.quote(source)} -vf {shlex.quote(filters)} -c:v libx264 -crf 18 -pix_fmt yuv420p -an "
        f"{shlex.quote(str(target))}"
    )
