"""Label records, and which clip each belongs to. Standard library only."""

import logging
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import join_key, relative_path, source_of

log = logging.getLogger(__name__)
_EXPECTED = 'expected {"video_path": "./0001.mp4", "labels": ["squats - good form"], ...}'


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """What a label file says of one clip.

    Attributes:
        path: Relative to the data set's folder; may lack the exercise's folder, or the suffix.
        labels: ``<exercise> - <variation>`` each.
        labels_descriptive: The same in sentences; may be empty.
        split: The data set's own ``train`` or ``test``, if it says.
        origin: File and record, for messages.
    """

    path: str
    labels: tuple[str, ...]
    labels_descriptive: tuple[str, ...] = ()
    split: str | None = None
    origin: str = ""

    @property
    def text(self) -> str:
        """The labels, several joined with ``"; "``."""
        return "; ".join(self.labels or self.labels_descriptive)

    @property
    def answer(self) -> str:
        """What the model should answer: ``labels_descriptive``, else ``labels``, several joined with ``"; "``."""
        return "; ".join(self.labels_descriptive or self.labels)


def read_labels(path: str | Path, data_root: str) -> list[LabelRecord]:
    """Read a label file in the layout of ``fine_grained_labels.json``: a list of records, or an object keyed by clip.

    Raises:
        InputError: If the file is missing or malformed; the message names the record.
    """
    content = read_json(path, remedy="put the label file there, or write it anew as JSON")
    if isinstance(content, dict):
        entries = [(f"{path}, record {key!r}", key, value) for key, value in content.items()]
    elif isinstance(content, list):
        entries = [(f"{path}, record {i}", None, value) for i, value in enumerate(content, 1)]
    else:
        raise InputError(f"{path}: holds a {type(content).__name__}; {_EXPECTED} in a list")
    if not entries:
        raise InputError(f"{path}: holds no record; {_EXPECTED} in a list")
    return [_record(where, key, value, data_root) for where, key, value in entries]


def _record(where: str, key: str | None, value: object, data_root: str) -> LabelRecord:
    if key is not None and not isinstance(value, dict):
        value = {"labels": value}
    if not isinstance(value, dict):
        raise InputError(f"{where}: is a {type(value).__name__}; {_EXPECTED}")
    name = value.get("video_path") or key
    if not isinstance(name, str):
        raise InputError(f"{where}: has no video_path; {_EXPECTED}")
    split = value.get("split")
    return LabelRecord(
        relative_path(name, data_root, where),
        _texts(value.get("labels"), "labels", where),
        _texts(value.get("labels_descriptive"), "labels_descriptive", where),
        split if isinstance(split, str) else None,
        where,
    )


def _texts(value: object, name: str, where: str) -> tuple[str, ...]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise InputError(f"{where}: {name} is neither a text nor a list of texts; {_EXPECTED}")
    return tuple(stripped for text in values if (stripped := text.strip()))


@dataclass
class Matched:
    """Clips with their records.

    Attributes:
        by_clip: Clip path (relative to the project) to its record.
        missing: Paths of clips that no record speaks of.
        counts: How often each way of matching was used, and ``labels_without_clip``.
    """

    by_clip: dict[str, LabelRecord] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)


def match_records(clips: Iterable[Clip], records: Iterable[LabelRecord]) -> Matched:
    """Match by relative path, else by a name that is unique, else an augmented clip to its recording's record.

    A record whose folder is that of other clips is never taken by name.

    Raises:
        InputError: If a name fits several clips or several records that differ, or equal paths have unequal labels.
    """
    clips = list(clips)
    by_stem, folders, stem_clips = defaultdict(list), set(), defaultdict(list)
    for clip in clips:
        folders.add(join_key(posixpath.dirname(clip.path)))
        stem_clips[_stem(clip.path)].append(clip)
    total = 0
    for record in records:
        total += 1
        stem = _stem(record.path)
        if stem in stem_clips:
            by_stem[stem].append(record)
    matched, used = Matched(), set()
    rest = []
    for clip in clips:
        exact = [r for r in by_stem[_stem(clip.path)] if _is_path_of(r.path, clip.path)]
        if exact:
            matched.by_clip[clip.path] = _only(exact, clip, matched.counts)
            matched.counts["by_path"] += 1
            used.update(map(id, exact))
        else:
            rest.append(clip)
    for clip in rest:
        fits = [r for r in by_stem[_stem(clip.path)] if id(r) not in used and not _in_folder_of_clips(r.path, folders)]
        if not fits:
            continue
        if len(namesakes := stem_clips[_stem(clip.path)]) > 1:
            both = " and ".join(namesake.path for namesake in namesakes)
            raise InputError(f"{fits[0].origin}: {fits[0].path!r} fits {both}; write the exercise's folder in front")
        matched.by_clip[clip.path] = _only(fits, clip, matched.counts)
        matched.counts["by_name"] += 1
        used.update(map(id, fits))
    paths = {clip.path for clip in clips}
    for clip in rest:
        if clip.path in matched.by_clip:
            continue
        source = source_of(clip.path, paths)
        if source in matched.by_clip:
            matched.by_clip[clip.path] = matched.by_clip[source]
            matched.counts["augmented_from_recording"] += 1
        else:
            matched.missing.append(clip.path)
    matched.counts["labels_without_clip"] = total - len(used)
    return matched


def _key(path: str) -> str:
    key = join_key(path)
    return key[:-4] if key[-4:].lower() == ".mp4" else key


def _stem(path: str) -> str:
    return posixpath.basename(_key(path))


def _is_path_of(record: str, clip: str) -> bool:
    return "/" in record and _key(clip).endswith("/" + _key(record))


def _in_folder_of_clips(record: str, folders: set[str]) -> bool:
    folder = join_key(posixpath.dirname(record))
    return bool(folder) and any(known.endswith("/" + folder) for known in folders)


def _only(records: list[LabelRecord], clip: Clip, counts: Counter) -> LabelRecord:
    first = records[0]
    for other in records[1:]:
        if (other.labels, other.labels_descriptive) != (first.labels, first.labels_descriptive):
            raise InputError(
                f"{clip.path}: {first.origin} ({first.path!r}) and {other.origin} ({other.path!r}) "
                "label it differently; delete one"
            )
        counts["duplicate_records"] += 1
    return first


def join_labels(clips: Iterable[Clip], records: Iterable[LabelRecord]) -> Matched:
    """Match every clip with a record that says something, and log how.

    Raises:
        InputError: If a clip has no label; the message lists the first ten.
    """
    matched = match_records(clips, records)
    missing = [(path, "no record") for path in matched.missing]
    missing += [(path, f"{record.origin} is empty") for path, record in matched.by_clip.items() if not record.answer]
    if missing:
        listed = ", ".join(f"{path} ({why})" for path, why in missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{len(missing)} of {len(missing) + len(matched.by_clip)} clips have no label: {listed}; "
            "add a record for each to the label file, or list the clip in dataset.exclude"
        )
    for record in matched.by_clip.values():
        matched.counts["answer_from_labels_descriptive" if record.labels_descriptive else "answer_from_labels"] += 1
    if matched.counts["augmented_from_recording"]:
        log.warning(
            "%d augmented clips take the label of their recording; a mirrored one may name the wrong side",
            matched.counts["augmented_from_recording"],
        )
    log.info("labels joined: %s", dict(matched.counts))
    return matched
