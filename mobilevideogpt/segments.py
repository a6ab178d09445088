"""Segments: parts of a recording, each a clip of its own. Standard library only.

The path of a segment is the path of its file with start and end in seconds, written as in W3C's Media Fragments URI:
``dataset/session.mp4#t=12,17.5``. It contains the frames that are shown from the start on and before the end.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

from mobilevideogpt.errors import InputError

_MARK = "#t="
_WRITTEN = re.compile(r"(?P<file>.+)#t=(?P<start>\d+(?:\.\d+)?),(?P<end>\d+(?:\.\d+)?)", re.DOTALL)
DIGITS = 3  # of a second; frames are further apart


class Segment(NamedTuple):
    """Start and end in seconds from the first frame of the file."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{_MARK}{_number(self.start)},{_number(self.end)}"


def _number(seconds: float) -> str:
    return f"{seconds:.{DIGITS}f}".rstrip("0").rstrip(".")


def split_segment(path: str | Path) -> tuple[str, Segment | None]:
    """Return the file of a clip, and its segment; None if the clip is the whole file."""
    text = str(path)
    match = _WRITTEN.fullmatch(text) if _MARK in text else None
    if match is None:
        return text, None
    return match["file"], Segment(round(float(match["start"]), DIGITS), round(float(match["end"]), DIGITS))


def file_of(path: str | Path) -> str:
    """Return the file of a clip."""
    return split_segment(path)[0]


def segment_of(path: str | Path) -> Segment | None:
    """Return the segment that a clip is; None if it is a whole file."""
    return split_segment(path)[1]


def with_segment(file: str, segment: Segment | None) -> str:
    """Return the path of a segment of a file; without a segment, the file's."""
    return file if segment is None else f"{file}{segment}"


def segment_between(start: object, end: object, where: str) -> Segment | None:
    """Return the segment that ``start`` and ``end`` of an entry describe; None if the entry has neither.

    Raises:
        InputError: If one of them is missing or no number of seconds, or the end is not after the start.
    """
    if start is None and end is None:
        return None
    numbers = [value for value in (start, end) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or not 0 <= numbers[0] < numbers[1]:
        raise InputError(
            f'{where}: start {start!r} and end {end!r} are no segment; write seconds, as in "start": 12.0, "end": 17.5'
        )
    return Segment(*(round(float(number), DIGITS) for number in numbers))


def read_segment(path: str, start: object, end: object, where: str) -> tuple[str, Segment | None]:
    """Return the file and the segment of an entry, whose path or whose ``start`` and ``end`` describe the segment.

    Raises:
        InputError: If they do not describe one, or describe two.
    """
    file, written = split_segment(path)
    given = segment_between(start, end, where)
    if written:
        segment_between(*written, where)
    if written and given and written != given:
        raise InputError(f"{where}: the path says {written}, start and end say {given}; keep one of them")
    return file, written or given
