"""Groups of clips that stay in one split: those of one recording, and those of one person. Standard library only."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.join import match_labels
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import relative_path, source_of

# QEVD names a recording with eight digits, unique in the whole data set; a suffix tells its copies apart. A suffix of
# three digits or more is no copy's: 20260101_093000, a phone's date and time, is a recording of its own.
RECORDING = r".*/(\d{8})(?:[_-](?!\d{3}).*)?"


def recording_rule(pattern: str) -> re.Pattern:
    """Compile ``annotations.recording_pattern``.

    Raises:
        InputError: If it is not a regular expression with a group.
    """
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise InputError(f"annotations.recording_pattern {pattern!r}: {error}; correct it in config.yaml") from None
    if not rule.groups:
        raise InputError(
            f"annotations.recording_pattern {pattern!r}: has no group; put the recording's name in parentheses, "
            f"as in {RECORDING!r}"
        )
    return rule


def recordings_of(paths: Iterable[str], pattern: str = RECORDING) -> dict[str, str]:
    """Name the recording of each clip.

    Clips whose paths, without suffix, match ``pattern`` belong to one recording if its first group is the same. A copy
    beside its clip (``squat_1_2`` or ``squat_1_mirrored`` beside ``squat_1``) belongs to the recording of that clip.
    Any other clip is a recording of its own, so ``squat_1`` and ``squat_2`` are two.

    Raises:
        InputError: See `recording_rule`.
    """
    rule, paths = recording_rule(pattern), set(paths)
    found = {}
    for path in paths:
        source = source_of(path, paths)
        match = rule.fullmatch(posixpath.splitext(source)[0])
        found[path] = source if match is None or match[1] is None else match[1]
    return found


def groups_of(recordings: Mapping[str, str], workers: Mapping[str, str]) -> list[list[str]]:
    """Join clips of one recording, and clips of one worker where the worker is known, into groups (union-find).

    Returns:
        The clips of each group, sorted; groups in order of their first clip.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = parents[parent]
            key = parent
        return key

    for path, recording in recordings.items():
        if (worker := workers.get(path)) is not None:
            parents[root(("worker", worker))] = root(("recording", recording))
    members = defaultdict(list)
    for path in sorted(recordings):
        members[root(("recording", recordings[path]))].append(path)
    return list(members.values())


def read_workers(path: str | Path, clips: Iterable[Clip], data_root: str) -> dict[str, str]:
    """Read who is seen in which clip, as in QEVD's ``fine_grained_labels_with_worker_ids.json``.

    The entries, ``{"video_path": ..., "worker_id": ...}``, are matched to clips as labels are. An entry without a
    worker is skipped.

    Returns:
        Clip path to the worker, for the clips with a known worker.

    Raises:
        InputError: If the file is malformed, or a clip has two workers.
    """
    expected = 'expected a list of {"video_path": "./0001.mp4", "worker_id": 17}'
    content = read_json(path, "write it anew as JSON, or delete it")
    if not isinstance(content, list):
        raise InputError(f"{path}: contains a {type(content).__name__}; {expected}")
    entries = []
    for i, value in enumerate(content, 1):
        where = f"{path}, entry {i}"
        if not isinstance(value, dict) or not isinstance(value.get("video_path"), str):
            raise InputError(f"{where}: has no video_path; {expected}")
        worker = value.get("worker_id")
        if isinstance(worker, dict | list):
            raise InputError(f"{where}: the worker_id is a {type(worker).__name__}; {expected}")
        if worker not in (None, ""):
            clip = relative_path(value["video_path"], data_root, where)
            entries.append(Label(clip, labels=(str(worker),), origin=where))  # a label, so that it is matched as one
    return {clip: entry.text for clip, entry in match_labels(clips, entries).by_clip.items()}
