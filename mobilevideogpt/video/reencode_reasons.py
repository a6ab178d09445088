"""Reasons to re-encode a clip, the message of each and the filters of FFmpeg that fix it. Standard library only."""

import shlex
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Reason(StrEnum):
    """Why a clip should be re-encoded; the values are in the files of the clip checks."""

    INTERLACED = "interlaced"
    OBLIQUE = "oblique"  # rotated, but not by a multiple of 90 degrees
    PIXELS = "pixels"  # not square
    HDR = "hdr"
    LARGE = "large"
    SIZE = "size"  # of the frames, which changes
    DECODER = "decoder"  # decoding failed or took too much
    RATE = "rate"  # of frames, which varies
    DIFFERENCE = "difference"  # between the two decoders
    READER = "reader"  # of the model's frames, which failed


RATE = 30  # frames a second of a clip that is made constant; the model takes one a second


class Reencoding(NamedTuple):
    """What is wrong with a clip, and the filters that fix it."""

    problem: str  # its subject is the clip
    filters: str = ""
    pyav_filters: str | None = None  # for PyAV's FFmpeg, where they differ


REENCODINGS = {
    Reason.INTERLACED: Reencoding("is interlaced: moving edges look like combs", "yadif"),
    # FFmpeg's command applies any rotation without a filter
    Reason.OBLIQUE: Reencoding("is rotated by an angle that is not a multiple of 90 degrees, which is not applied"),
    Reason.PIXELS: Reencoding("has pixels that are not square: bodies look distorted", "scale=iw*sar:ih,setsar=1"),
    Reason.HDR: Reencoding(
        "has HDR colours, which look dull and flat",
        "zscale=t=linear:npl=100,tonemap=hable,zscale=t=bt709:m=bt709:p=bt709:r=tv,format=yuv420p",
        "scale=out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709,format=yuv420p",  # FFmpeg 8 and later
    ),
    Reason.LARGE: Reencoding(
        "has frames of more than 9.4 million pixels, which are slow to decode",
        "scale=1920:1920:force_original_aspect_ratio=decrease",
    ),
    Reason.SIZE: Reencoding("changes its frame size part-way"),
    Reason.DECODER: Reencoding("could not be decoded within the limits"),
    Reason.RATE: Reencoding(
        "has a varying frame rate, and the model's frames are chosen by number, so they miss much of its time",
        f"fps={RATE}",
    ),
    Reason.DIFFERENCE: Reencoding("looks different to the model, whose frames decord reads, than in a player"),
    Reason.READER: Reencoding("cannot be read by decord, which reads the model's frames"),
}
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # H.264 with 4:2:0 chroma needs even sides


def ffmpeg_command(path: str | Path, reasons: Iterable[Reason]) -> str:
    """Return the FFmpeg command that does what `reencode_worker.reencode` does, for a user to run.

    FFmpeg itself applies the display matrix and scales frames of a changing size to that of the first.
    """
    path = Path(path)
    filters = ",".join([*(REENCODINGS[reason].filters for reason in reasons if REENCODINGS[reason].filters), EVEN])
    target = path.with_name(f"{path.stem}-reencoded.mp4")
    source = f"./{path}" if str(path).startswith("-") else str(path)
    return (
        f"ffmpeg -i {shlex.quote(source)} -vf {shlex.quote(filters)} -c:v libx264 -crf 18 -pix_fmt yuv420p -an "
        f"{shlex.quote(str(target))}"
    )
