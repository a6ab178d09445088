"""What the data set says of each clip: labels, free feedback, or questions with answers. Standard library only."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.annotations.manifest import Clip, Findings
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import VIDEO_SUFFIXES, join_key, relative_path, source_of

log = logging.getLogger(__name__)

# Where the answers of each `annotations.source` may stand; the first that is there counts. QEVD's names, and those of
# selections from them.
ANSWER_FILES = {
    "labels": ("ground_truth.json", "fine_grained_labels.json"),
    "feedbacks": ("feedbacks.json", "feedbacks_short_clips.json"),
    "questions": ("questions.json",),
}
_EXPECTED = {
    "labels": '{"video_path": "./0001.mp4", "labels": ["squats - good form"], ...}',
    "feedbacks": '{"video_path": "./0001.mp4", "feedbacks": ["Go deeper."], ...}',
    "questions": '{"video_path": "./0001.mp4", "high_level": {"query": ["..."], "response": ["..."]}, ...}',
}
_SUFFIX = re.compile(f"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})$", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEVELS = ("high_level", "fine_grain")  # of the questions

WITHOUT_CLIP = "records that speak of no clip of the manifest"
BY_NAME = "clips joined to their record by name, not by path"
FROM_RECORDING = "augmented clips that take the record of their recording"
DUPLICATES = "records that say the same as another"
WITHOUT_ANSWER = "clips left out, for which there is no answer"
OTHER_EXERCISE = "clips whose label begins with another exercise than the manifest's"
FROM_LABELS = "clips whose answer is the bare label, without a description"
HALF_QUESTIONS = "questions left out, without a question or without an answer"


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """What a file says of one clip.

    Attributes:
        path: Relative to the data set's folder; may lack the exercise's folder, or the suffix.
        labels: ``<exercise> - <variation>`` each; of source ``labels``.
        labels_descriptive: The same in sentences; may be empty.
        split: The data set's own ``train`` or ``test``, if it says; whatever it says, in lower case.
        origin: File and record, for messages.
        dialogue: Questions, None for that of `annotations.prompt`, and answers; of the other sources.
        raw: The record as it stands in the file.
    """

    path: str
    labels: tuple[str, ...] = ()
    labels_descriptive: tuple[str, ...] = ()
    split: str | None = None
    origin: str = ""
    dialogue: tuple[tuple[str | None, str], ...] = ()
    raw: Mapping = field(default_factory=dict, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The labels, several joined with ``"; "``."""
        return "; ".join(self.labels or self.labels_descriptive)

    @property
    def turns(self) -> tuple[tuple[str | None, str], ...]:
        """Questions and answers; of labels the descriptive ones, else the bare ones, several joined with ``"; "``."""
        answer = "; ".join(self.labels_descriptive or self.labels)
        return self.dialogue or (((None, answer),) if answer else ())


def read_records(
    path: str | Path, data_root: str, source: str = "labels", findings: Findings | None = None
) -> list[LabelRecord]:
    """Read a file of QEVD: a list of records, or an object keyed by clip.

    Args:
        path: The file.
        data_root: The data set's folder, relative to the project.
        source: Its kind. ``labels``: as ``fine_grained_labels.json``. ``feedbacks``: as
            ``feedbacks_short_clips.json``; several feedbacks of a clip make one answer. ``questions``: as
            ``questions.json``; each question with its answer is a conversation of its own.
        findings: Gets what was left out.

    Raises:
        InputError: If the file is missing or malformed; the message names the record.
    """
    expected = f"expected {_EXPECTED[source]}"
    findings = Findings(list) if findings is None else findings
    content = read_json(path, "put the file there, or write it anew as JSON", object_pairs_hook=_unambiguous)
    if isinstance(content, dict):
        entries = [(f"{path}, record {key!r}", key, value) for key, value in content.items()]
    elif isinstance(content, list):
        entries = [(f"{path}, record {i}", None, value) for i, value in enumerate(content, 1)]
    else:
        raise InputError(f"{path}: holds a {type(content).__name__}; {expected} in a list")
    if not entries:
        raise InputError(f"{path}: holds no record; {expected} in a list")
    records = []
    for where, key, value in entries:
        if key is not None and not isinstance(value, dict):
            value = {source: value}
        if not isinstance(value, dict):
            raise InputError(f"{where}: is a {type(value).__name__}; {expected}")
        name = value.get("video_path") or key
        if not isinstance(name, str):
            raise InputError(f"{where}: has no video_path; {expected}")
        split = value.get("split")
        try:
            records.append(
                LabelRecord(
                    relative_path(name, data_root, where),
                    split=None if split is None else str(split).strip().lower() or None,
                    origin=where,
                    raw=value,
                    **_SAID[source](value, where, findings),
                )
            )
        except _Unexpected as error:
            raise InputError(f"{where}: {error}; {expected}") from None
    return records


def _unambiguous(pairs: list[tuple[str, object]]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs) and any(record[key] != value for key, value in pairs):
        twice = next(key for key, value in pairs if record[key] != value)
        raise ValueError(f"{twice!r} stands twice in one object, with values that differ")
    return record


class _Unexpected(ValueError):
    """What is wrong about a record."""


def _labels(value: dict, where: str, findings: Findings) -> dict:
    return {name: _texts(value.get(name), name) for name in ("labels", "labels_descriptive")}


def _feedbacks(value: dict, where: str, findings: Findings) -> dict:
    name = "feedbacks" if "feedbacks" in value else "feedback"
    answer = " ".join(_texts(value.get(name), name))
    return {"dialogue": ((None, answer),) if answer else ()}


def _questions(value: dict, where: str, findings: Findings) -> dict:
    dialogue = {}
    for level in _LEVELS:
        group = value.get(level)
        if group is None:
            continue
        if not isinstance(group, dict):
            raise _Unexpected(f"{level} is a {type(group).__name__}")
        asked, answered = (_texts(group.get(name), f"{level}.{name}", True) for name in ("query", "response"))
        if len(asked) != len(answered):
            raise _Unexpected(f"{level} holds {len(asked)} queries and {len(answered)} responses")
        for question, answer in zip(asked, answered, strict=True):
            if question and answer:
                dialogue[question, answer] = None  # once, where both levels ask the same
            else:
                findings[HALF_QUESTIONS].append(f"{where}, {level}")
    return {"dialogue": tuple(dialogue)}


_SAID = {"labels": _labels, "feedbacks": _feedbacks, "questions": _questions}


def _texts(value: object, name: str, keep_empty: bool = False) -> tuple[str, ...]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise _Unexpected(f"{name} is neither a text nor a list of texts")
    texts = []
    for text in values:
        if not isinstance(text, str):
            raise _Unexpected(f"{name} is neither a text nor a list of texts")
        if not text.isascii() and _SURROGATE.search(text):
            raise _Unexpected(f"{name} holds half a character ({text!r})")
        if "<video>" in text:
            raise _Unexpected(f"{name} holds <video>, which stands for the clip")
        if (stripped := text.strip()) or keep_empty:
            texts.append(stripped)
    return tuple(texts)


@dataclass
class Matched:
    """Clips with their records.

    Attributes:
        by_clip: Clip path (relative to the project) to its record.
        missing: Paths of clips that no record speaks of.
        by_path: How many clips were matched by path.
        findings: What was passed over or guessed: clips or records, by reason.
    """

    by_clip: dict[str, LabelRecord] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    by_path: int = 0
    findings: Findings = field(default_factory=lambda: Findings(list))


def match_records(clips: Iterable[Clip], records: Iterable[LabelRecord]) -> Matched:
    """Match by relative path, else by a name that is unique, else an augmented clip to its recording's record.

    A record whose folder is that of other clips is never taken by name.

    Raises:
        InputError: If a name fits several clips or several records that differ, or equal paths have unequal records.
    """
    stems: dict[str, list[tuple[str, str]]] = defaultdict(list)  # name -> key and path of each clip of that name
    for clip in clips:
        key = _key(clip.path)
        stems[key.rpartition("/")[2]].append((key, clip.path))
    folders = {key.rpartition("/")[0] for named in stems.values() for key, _ in named}
    matched = Matched()
    speaking: dict[str, list[tuple[str, LabelRecord]]] = defaultdict(list)  # name -> key and record of each
    for record in records:
        key = _key(record.path)
        stem = key.rpartition("/")[2]
        if stem in stems:
            speaking[stem].append((key, record))
        else:
            matched.findings[WITHOUT_CLIP].append(f"{record.path} ({record.origin})")
    for stem, said in speaking.items():
        rest, used = [], set()
        for key, path in stems[stem]:
            exact = [record for name, record in said if "/" in name and key.endswith("/" + name)]
            if exact:
                matched.by_clip[path] = _only(exact, path, matched.findings)
                matched.by_path += 1
                used.update(map(id, exact))
            else:
                rest.append(path)
        fits = [record for name, record in said if id(record) not in used and not _in_folder_of_clips(name, folders)]
        if rest and fits:
            if len(stems[stem]) > 1:
                both = " and ".join(sorted(path for _, path in stems[stem]))
                raise InputError(
                    f"{fits[0].origin}: {fits[0].path!r} fits {both}; write the exercise's folder in front"
                )
            matched.by_clip[rest[0]] = _only(fits, rest[0], matched.findings)
            matched.findings[BY_NAME] += rest
            used.update(map(id, fits))
        unused = (record for _, record in said if id(record) not in used)
        matched.findings[WITHOUT_CLIP] += [f"{record.path} ({record.origin})" for record in unused]
    paths = {path for named in stems.values() for _, path in named}
    for path in sorted(paths - matched.by_clip.keys()):
        source = source_of(path, paths)
        if source in matched.by_clip:
            matched.by_clip[path] = matched.by_clip[source]
            matched.findings[FROM_RECORDING].append(path)
        else:
            matched.missing.append(path)
    return matched


def _key(path: str) -> str:
    """The path without its suffix, in one Unicode form."""
    return _SUFFIX.sub("", join_key(path))


def _in_folder_of_clips(name: str, folders: set[str]) -> bool:
    folder = name.rpartition("/")[0]
    return bool(folder) and any(known.endswith("/" + folder) for known in folders)


def _only(records: list[LabelRecord], path: str, findings: Findings) -> LabelRecord:
    first = records[0]
    for other in records[1:]:
        differ = "label it differently" if (other.labels, other.turns) != (first.labels, first.turns) else None
        if differ is None and other.split != first.split:
            differ = f"put it into different splits, {first.split} and {other.split}"
        if differ:
            raise InputError(
                f"{path}: {first.origin} ({first.path!r}) and {other.origin} ({other.path!r}) {differ}; delete one"
            )
        findings[DUPLICATES].append(f"{other.path} ({other.origin})")
    return first


def join_records(clips: Iterable[Clip], records: Iterable[LabelRecord], source: str = "labels") -> Matched:
    """Match every clip with a record that says something, and log how.

    Labels are there for every clip, or something is wrong. Free feedback is not (most clips of QEVD have none): with
    the other sources, a clip without an answer is left out and listed.

    Raises:
        InputError: If a clip has no label, the message lists the first ten; or if no clip has an answer.
    """
    clips = list(clips)
    matched = match_records(clips, records)
    silent = {path: f"{record.origin} is empty" for path, record in matched.by_clip.items() if not record.turns}
    lacking = [f"{path} (no record)" for path in matched.missing] + [f"{p} ({why})" for p, why in silent.items()]
    if lacking and (source == "labels" or len(lacking) == len(clips)):
        listed = ", ".join(lacking[:10]) + (", ..." if len(lacking) > 10 else "")
        named = ("label", "label file"), ("answer", f"file of annotations.source {source}")
        what, file = named[source != "labels"]
        spare = matched.findings[WITHOUT_CLIP]
        also = f", and there is no clip for {', '.join(spare)}" if 0 < len(spare) <= 10 else ""  # a name mistyped?
        raise InputError(
            f"{len(lacking)} of {len(clips)} clips have no {what}: {listed}{also}; "
            f"add a record for each to the {file}, or list the clip in dataset.exclude"
        )
    if lacking:
        log.warning("%d of %d clips are left out, for which there is no answer", len(lacking), len(clips))
    for path in silent:
        del matched.by_clip[path]
    findings = matched.findings
    findings[WITHOUT_ANSWER] = lacking
    for clip in clips:
        record = matched.by_clip.get(clip.path)
        if record and record.labels:
            if not record.labels_descriptive:
                findings[FROM_LABELS].append(clip.path)
            if not any(_same_name(label.partition(" - ")[0], clip.exercise) for label in record.labels):
                findings[OTHER_EXERCISE].append(f"{clip.path} ({record.labels[0]})")
    if findings[FROM_RECORDING]:
        log.warning(
            "%d augmented clips take the label of their recording; a mirrored one may name the wrong side",
            len(findings[FROM_RECORDING]),
        )
    if findings[OTHER_EXERCISE]:
        others = findings[OTHER_EXERCISE]
        log.warning("%d %s: %s%s", len(others), OTHER_EXERCISE, others[0], ", ..." * (len(others) > 1))
    log.info("%d clips, %d joined by path", len(clips), matched.by_path)
    for reason, items in findings.items():
        if items:
            log.info("%d %s: %s%s", len(items), reason, ", ".join(items[:10]), ", ..." * (len(items) > 10))
    return matched


def _same_name(a: str, b: str) -> bool:
    if a.replace(" ", "_") == b:  # most are
        return True
    a, b = ("".join(filter(str.isalnum, name)).casefold() for name in (a, b))
    return a == b
