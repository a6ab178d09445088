"""Groups of clips that stay in one split: those of one recording, and those of one person. Standard library only."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.copies import recording_stems
from mobilevideogpt.annotations.findings import first_of
from mobilevideogpt.annotations.join import match_labels
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.annotations.spelling import label_path
from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import read_json
from mobilevideogpt.segments import file_of

# QEVD names a recording with eight digits, unique in the whole data set; a suffix tells its copies apart. A suffix of
# three digits or more is no copy's: 20260101_093000, a phone's date and time, is a recording of its own. Eight digits
# that read as a date are no recording's name either: 20240115_squats_1a and 20240115_squats_1b are two. QEVD's numbers
# begin with 00, so that they read as no date. A number such as 15012024 can be both a recording and a date with the
# year at its end (15012024, 01152024). It is a date only where a word follows: 15012024_squats_1a, but 15012024_1 and
# 15012024_2 are copies, since copies that are parted leak across splits. `recording_stems` removes words that mark a
# copy, so 15012024_flip is one, too.
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_YEAR_FIRST = rf"(?:19|20)\d\d{_MONTH}{_DAY}"
_YEAR_LAST = rf"(?:{_DAY}{_MONTH}|{_MONTH}{_DAY})(?:19|20)\d\d[ (_-]+[^\W\d_]"
RECORDING = rf".*/(?!{_YEAR_FIRST}|{_YEAR_LAST})(\d{{8}})(?:[ (_-](?!\d{{3}}).*)?"


class DisjointSets:
    """Disjoint sets of keys (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def root(self, key: Hashable) -> Hashable:
        """Return the key that stands for the set of a key."""
        parents = self._parents
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = key = parents[parent]
        return key

    def join(self, one: Hashable, other: Hashable) -> None:
        """Unite the sets of two keys."""
        if one != other:
            self._parents[self.root(one)] = self.root(other)


def recording_rule(pattern: str) -> re.Pattern:
    """Compile ``annotations.recording_pattern``.

    Raises:
        InputError: If it is not a regular expression with a group.
    """
    where = f"annotations.recording_pattern {shown(pattern)}"
    try:
        rule = re.compile(pattern)
    except (re.error, OverflowError) as error:  # the latter for a repetition of billions
        raise InputError(f"{where}: {error}; correct it in config.yaml") from None
    except RecursionError:
        raise InputError(f"{where}: its parentheses are nested too deeply; simplify it in config.yaml") from None
    if not rule.groups:
        raise InputError(f"{where}: has no group; put the recording's name in parentheses, as in {RECORDING!r}")
    return rule


@dataclass(frozen=True)
class Recordings:
    """The recordings of clips.

    Attributes:
        by_clip: Clip path to its recording, which is the path of one of its clips.
        names: Clip path to the recording's name, where the pattern finds one.
    """

    by_clip: dict[str, str]
    names: dict[str, str]


def recordings_of(paths: Iterable[str], pattern: str = RECORDING, same: Iterable[Collection[str]] = ()) -> Recordings:
    """Find the recording of each clip.

    The segments of a file are one recording. Clips whose paths, without suffix, match ``pattern`` belong to one
    recording if its first group is the same. So do a clip and its copies by name (``squat_1_2`` or ``flip_squat_1``
    beside ``squat_1``, see `recording_stems`), and the clips of each collection in ``same``. Any other clip is a
    recording of its own: ``squat_1`` and ``squat_2`` are two.

    Raises:
        InputError: See `recording_rule`.
    """
    rule, paths = recording_rule(pattern), sorted(paths)
    files = {path: file_of(path) for path in paths}
    stem_of, name_of = recording_stems(dict.fromkeys(files.values())), {}
    for file, stem in stem_of.items():
        match = rule.fullmatch(stem) or rule.fullmatch(posixpath.splitext(file)[0])
        if match and match[1] is not None:
            name_of[file] = match[1]
    stems = {path: stem_of[file] for path, file in files.items()}
    names = {path: name_of[file] for path, file in files.items() if file in name_of}
    sets = DisjointSets()
    for key_of in (stems, names):
        first: dict[str, str] = {}
        for path, key in key_of.items():
            sets.join(path, first.setdefault(key, path))
    clip_of = {file: path for path, file in files.items()}  # one of each file, whose segments are joined already
    for clips in same:
        known = [clip_of[file] for clip in clips if (file := file_of(clip)) in clip_of]
        for path in known[1:]:
            sets.join(path, known[0])
    chosen: dict[Hashable, str] = {}
    return Recordings({path: chosen.setdefault(sets.root(path), path) for path in paths}, names)


def groups_of(recordings: Mapping[str, str], workers: Mapping[str, str]) -> list[list[str]]:
    """Join clips of one recording, and clips of one worker where the worker is known, into groups.

    Returns:
        The clips of each group, sorted; groups in order of their first clip.
    """
    sets = DisjointSets()
    for path, recording in recordings.items():
        if (worker := workers.get(path)) is not None:
            sets.join(("worker", worker), ("recording", recording))
    members = defaultdict(list)
    for path in sorted(recordings):
        members[sets.root(("recording", recordings[path]))].append(path)
    return list(members.values())


def why_together(clips: Collection[str], names: Mapping[str, str], workers: Mapping[str, str], pattern: str) -> str:
    """Say in a clause what joins the clips of a group, and what to do if they do not belong together.

    Args:
        clips: The group.
        names: See `Recordings`.
        workers: Clip path to the person seen in it.
        pattern: ``annotations.recording_pattern``.
    """
    examples = first_of(sorted(clips), 3)
    [(name, named)] = Counter(names[path] for path in clips if path in names).most_common(1) or [("", 0)]
    [(worker, seen)] = Counter(workers[path] for path in clips if path in workers).most_common(1) or [("", 0)]
    if named >= max(seen, 2):
        return (
            f"annotations.recording_pattern '{pattern}' finds the recording {name!r} in {named} of them ({examples}); "
            "if that is not one recording or person, change the pattern"
        )
    if seen >= 2:
        return f"the file of the persons names worker {worker!r} for {seen} of them ({examples}); correct it if wrong"
    return (
        f"their names, their files or their frames are those of copies ({examples}); rename those that are not, or "
        "settle them in splits.csv"
    )


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
    content = read_json(path, "write it again as JSON, or delete it")
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
            clip = label_path(value["video_path"], data_root, where)
            entries.append(Label(clip, labels=(str(worker),), origin=where))  # a label, so that it is matched as one
    paths = [clip.path for clip in clips]
    files = [Clip(file, "") for file in dict.fromkeys(map(file_of, paths))]  # one person is seen in a whole file
    worker_of = {file: entry.text for file, entry in match_labels(files, entries, data_root=data_root).by_clip.items()}
    return {path: worker_of[file] for path in paths if (file := file_of(path)) in worker_of}
