"""What a process of `clip_check_worker` tells its parent, `clip_check`: one message a line, as JSON.

A worker sends ``STARTED`` once. For each clip it sends ``FILE``, then ``DECODED`` or ``OUT_OF_MEMORY``.
Standard library only.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Kinds of messages."""

    STARTED = "started"  # the worker has imported what it needs
    FILE = "file"  # with the fields of `FileFacts`
    DECODED = "decoded"  # with the fields of `Decoded`; completes the clip
    OUT_OF_MEMORY = "out_of_memory"  # decoding was refused memory; completes the clip


class Message(NamedTuple):
    """A message and its fields."""

    kind: Kind
    fields: dict

    def to_line(self) -> str:
        """Return the message as a line, without its end."""
        return json.dumps([self.kind, self.fields])

    @classmethod
    def from_line(cls, line: str | bytes) -> "Message":
        """Read a line of `to_line`."""
        kind, fields = json.loads(line)
        return cls(Kind(kind), fields)


@dataclass
class FileFacts:
    """A clip's file."""

    digest: str  # SHA-256
    bytes: int


@dataclass
class Seen:
    """What the model sees of a file or a segment."""

    frames: int  # that are shown
    seen: float  # share of the time, see `sampling.seen_share`
    seen_evenly: float  # what that share were at a constant frame rate
    first_only: bool  # the model receives the first frames, and none after them


@dataclass
class Decoded:
    """What decoding a clip in full found; None is unknown."""

    frames: int = 0  # that were decoded
    corrupt: int = 0  # of these, frames that the decoder marks as corrupt
    errors: list[str] = field(default_factory=list)  # of the decoder
    # from the header
    container: str | None = None
    codec: str | None = None  # None: not a decodable video
    frames_declared: int | None = None
    fps: float | None = None
    seconds: float | None = None
    pixel_aspect: float = 1.0
    # from the packets
    expected: int = 0  # shown frames
    hidden: int = 0  # frames that are not shown
    # from the frames
    width: int = 0  # pixels, before the display matrix is applied
    height: int = 0
    size_changes: bool = False
    rotation: int = 0  # degrees, as FFmpeg counts them
    oblique: bool = False  # rotated, but not by a multiple of 90 degrees
    interlaced: bool = False
    hdr: bool = False
    seen: float | None = None  # of the whole file, see `Seen`
    seen_evenly: float | None = None
    first_only: bool = False
    segments: dict[str, dict] = field(default_factory=dict)  # of each segment with a frame, the fields of `Seen`
    # from the reader of the model's frames
    reader_difference: float | None = None  # mean absolute difference of the worst frame, 0 to 255
    reader_error: str | None = None
    # from thumbnails
    brightness: float | None = None
    sharpness: float | None = None
    motion: float | None = None
    hashes: list[str | None] | None = None
    hash_seconds: float | None = None  # from one hash to the next

    def to_message(self) -> Message:
        """Return these findings as a message."""
        return Message(Kind.DECODED, asdict(self))
