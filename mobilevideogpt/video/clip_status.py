"""The status of a clip (ok, warning, error), from what decoding it found. Standard library only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from mobilevideogpt.segments import Segment
from mobilevideogpt.video.clip_check_messages import Decoded, FileFacts, Seen
from mobilevideogpt.video.reencode_reasons import REENCODINGS, Reason, ffmpeg_command
from mobilevideogpt.video.sampling import NUM_FRAMES

QUALITY = ("brightness", "sharpness", "motion")
FIELDS = (
    *("video", "verdict", "problems", "reencode", "digest", "bytes", "container", "codec", "frames", "frames_declared"),
    *("fps", "seconds", "width", "height", "pixel_aspect", "rotation", "decode_errors", *QUALITY),
    *("seen", "segments", "reader_difference", "hashes", "hash_seconds"),
)
LARGEST_PIXELS = 4096 * 2304  # 16 larger frames as RGB would take half a gigabyte
LARGEST_DIFFERENCE = 0.3  # of 255; of all clips measured, equal ones are at 0.00, and others at 1.9 and more
# The model sees this much of a clip of 24 seconds. Rounding down its steps costs short clips less: 0.73 at 45 frames.
LEAST_SEEN = 2 / 3
OR_EXCLUDE = "or list it in dataset.exclude"
_COPY_AGAIN = f"copy it again from its source, {OR_EXCLUDE}"


_EXPLAINING = {Reason.INTERLACED, Reason.HDR}  # reasons why decoders differ
_ERRORS = {Reason.SIZE, Reason.READER}  # frames form no batch; clips with another reason can be trained on, but mislead


class Status(StrEnum):
    """The status of a clip; files name it ``verdict``."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass
class Outcome:
    """How the decoding of a clip ended."""

    obstacle: str | None = None  # why the file cannot be opened, with the remedy
    failure: str | None = None  # why decoding did not end; its subject is the clip
    file: FileFacts | None = None
    decoded: Decoded | None = None
    messages: list[str] = field(default_factory=list)  # FFmpeg's error messages

    @property
    def damage(self) -> list[str]:
        """Errors of the decoder, and FFmpeg's error messages."""
        return [*(self.decoded.errors if self.decoded else []), *self.messages]


def clip_check(path: str | Path, outcome: Outcome, min_frames: int = NUM_FRAMES) -> dict:
    """Build a clip check of `FIELDS`; see `mobilevideogpt.video.clip_check.check_clips`."""
    decoded, reasons = outcome.decoded, _reasons(outcome)
    errors, warnings = _problems(str(path), outcome, reasons, min_frames)
    found = asdict(outcome.file) if outcome.file else {}
    if decoded and decoded.codec is None:
        found |= {"frames": decoded.frames}
    elif decoded:
        found |= asdict(decoded)
    check = dict.fromkeys(FIELDS) | {name: found[name] for name in FIELDS if name in found}
    if decoded:
        check["decode_errors"] = len(outcome.damage) + decoded.corrupt
    status = Status.ERROR if errors else Status.WARNING if warnings else Status.OK
    return check | {"video": str(path), "verdict": status, "problems": errors + warnings, "reencode": reasons}


def out_of_bounds(check: Mapping, bounds: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """Compare a clip's quality with bounds. Separate from `clip_check`, so that new bounds need no new decoding.

    Args:
        check: A clip check.
        bounds: Lowest and highest value of measures named in `QUALITY`; None is no bound. A measure that is None
            passes.

    Returns:
        A problem, with its remedy, for each measure out of bounds.
    """
    problems = []
    for name, (lowest, highest) in bounds.items():
        value = check[name]
        if value is not None and ((lowest is not None and value < lowest) or (highest is not None and value > highest)):
            problems.append(f"{name} {value:g} is out of the bounds in integrity.{name}; record it again, {OR_EXCLUDE}")
    return problems


def _reasons(outcome: Outcome) -> list[Reason]:
    if outcome.failure:
        return [Reason.DECODER]
    decoded = outcome.decoded
    if decoded is None or not decoded.frames or outcome.damage or decoded.corrupt:
        return []
    found = {
        Reason.INTERLACED: decoded.interlaced,
        Reason.OBLIQUE: decoded.oblique,
        Reason.PIXELS: decoded.pixel_aspect != 1,
        Reason.HDR: decoded.hdr,
        Reason.LARGE: decoded.width * decoded.height > LARGEST_PIXELS,
        Reason.SIZE: decoded.size_changes,
        Reason.RATE: any(seen < LEAST_SEEN * evenly for seen, evenly in _shares(decoded)),
        Reason.READER: decoded.reader_error is not None,
    }
    reasons = [reason for reason, applies in found.items() if applies]
    if (decoded.reader_difference or 0) > LARGEST_DIFFERENCE and not _EXPLAINING.intersection(reasons):
        reasons.append(Reason.DIFFERENCE)
    return reasons


def _problems(path: str, outcome: Outcome, reasons: list[Reason], min_frames: int) -> tuple[list[str], list[str]]:
    """Return errors and warnings, each with its remedy."""
    if outcome.obstacle:
        return [outcome.obstacle], []
    reencode = f"re-encode it with `snakemake reencode` or `{ffmpeg_command(path, reasons)}`, {OR_EXCLUDE}"
    decoded = outcome.decoded
    if outcome.failure or decoded is None:
        return [f"{outcome.failure}; {reencode}"], []
    if damaged := _damage_problem(outcome, decoded):
        return [damaged], []
    errors, warnings = [], []
    expected = _expected_frames(decoded)
    if abs(expected - decoded.frames) > 1:
        warnings.append(f"{decoded.frames} of {expected} declared frames are there; {_COPY_AGAIN}")
    if decoded.frames < min_frames:
        warnings.append(_short_problem(decoded.frames, min_frames))
    if Reason.RATE not in reasons and (unseen := _unseen_problem(decoded)):
        warnings.append(unseen)
    details = {
        Reason.RATE: f" ({decoded.seen:.0%} is seen)" if decoded.seen else "",
        Reason.DIFFERENCE: f" (by {decoded.reader_difference} of 255: is it mirrored, or of more than 8 bits?)",
        Reason.READER: f" ({decoded.reader_error})",
    }
    for reason in reasons:
        problems = errors if reason in _ERRORS else warnings
        problems.append(f"{REENCODINGS[reason].problem}{details.get(reason, '')}; {reencode}")
    return errors, warnings


def segment_status(check: Mapping, segment: Segment, min_frames: int = NUM_FRAMES) -> tuple[Status, list[str]]:
    """Return the status and the problems of a segment, from the check of its file."""
    status, problems = Status(check["verdict"]), list(check["problems"])
    if status == Status.ERROR:
        return status, problems
    if (facts := check["segments"].get(str(segment))) is None:
        span = f"from {segment.start:g} to {segment.end:g} s"
        return Status.ERROR, [*problems, f"no frame is shown {span}; correct its start and end, {OR_EXCLUDE}"]
    seen = Seen(**facts)
    found = [_short_problem(seen.frames, min_frames)] if seen.frames < min_frames else []
    if Reason.RATE not in check["reencode"] and (unseen := _unseen_problem(seen)):
        found.append(unseen)
    return Status.WARNING if found else status, [*problems, *found]


def _shares(decoded: Decoded) -> list[tuple[float, float]]:
    """Return the shares of the time that the model sees, and would see at a constant frame rate."""
    shares = [(facts["seen"], facts["seen_evenly"]) for facts in decoded.segments.values()]
    return [*shares, (decoded.seen, decoded.seen_evenly)] if decoded.seen and decoded.seen_evenly else shares


def _short_problem(frames: int, min_frames: int) -> str:
    return (
        f"has {frames} frame{'s' * (frames > 1)}, fewer than the {min_frames} that the model receives; the rest is "
        f"blank; use a longer clip, {OR_EXCLUDE}"
    )


def _unseen_problem(decoded: Decoded | Seen) -> str | None:
    """Return what the model does not see of a clip at a constant frame rate."""
    if decoded.first_only:
        return (
            f"the model receives the first {NUM_FRAMES} of its {decoded.frames} frames and none after them; use a "
            f"longer clip, {OR_EXCLUDE}"
        )
    if decoded.seen_evenly is not None and decoded.seen_evenly < LEAST_SEEN:
        return (
            f"the model receives {NUM_FRAMES} frames, which show {decoded.seen_evenly:.0%} of its time; cut it into "
            f"clips of up to {NUM_FRAMES} seconds, {OR_EXCLUDE}"
        )
    return None


def _damage_problem(outcome: Outcome, decoded: Decoded) -> str | None:
    why = f" ({outcome.damage[0]})" if outcome.damage else ""
    if decoded.codec is None:
        return f"is not a decodable video{why}; {_COPY_AGAIN}"
    if outcome.damage or decoded.corrupt or not decoded.frames or decoded.frames < decoded.expected:
        intact = f"{decoded.frames - decoded.corrupt} of {_expected_frames(decoded)} frames decode intact"
        return f"is damaged{why}: {intact}; {_COPY_AGAIN}"
    return None


def _expected_frames(decoded: Decoded) -> int:
    return max(decoded.expected, (decoded.frames_declared or 0) - decoded.hidden)
