"""Read label files: labels, free feedback, or questions with answers, as JSON; labels as CSV, too.

Standard library only.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from mobilevideogpt.annotations.answers import join_answer
from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.label_table import CSV_FORMAT, LABELS_CSV, read_rows
from mobilevideogpt.annotations.spelling import label_path
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.segments import Segment, read_segment, split_segment

# The files that may contain the answers of each `annotations.source`; the first that exists is used. Those of JSON have
# QEVD's names, and those of selections from it. The answer of `folders` is the exercise, which the manifest has.
ANSWER_FILES = {
    "labels": ("ground_truth.json", "fine_grained_labels.json", LABELS_CSV),
    "feedbacks": ("feedbacks.json", "feedbacks_short_clips.json"),
    "questions": ("questions.json",),
    "folders": (),
}
_EXPECTED = {
    "labels": '{"video_path": "./0001.mp4", "labels": ["squats - good form"], ...}',
    "feedbacks": '{"video_path": "./0001.mp4", "feedbacks": ["Go deeper."], ...}',
    "questions": '{"video_path": "./0001.mp4", "high_level": {"query": ["..."], "response": ["..."]}, ...}',
}
_QUESTION_LEVELS = ("high_level", "fine_grain")
_SURROGATE = re.compile("[\ud800-\udfff]")

Turns = tuple[tuple[str | None, str], ...]  # question (None: that of `annotations.prompt`) and answer


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one clip: one entry of a label file.

    Attributes:
        path: Relative to the data set's folder, see `label_path`; the exercise's folder or the suffix may be missing.
        labels: ``<exercise> - <variation>`` each; empty for feedbacks and questions.
        labels_descriptive: The same in sentences, paired with ``labels`` by position. In both, an empty text is a gap,
            and the tuple may end early.
        split: The data set's own split, in lower case; usually ``train`` or ``test``.
        segment: The part of the file that the label is about; None is the whole file.
        origin: File and entry, for messages.
        dialogue: Questions and answers, of feedbacks and questions.
        raw: The entry as it is in the file.
    """

    path: str
    labels: tuple[str, ...] = ()
    labels_descriptive: tuple[str, ...] = ()
    split: str | None = None
    segment: Segment | None = None
    origin: str = ""
    dialogue: Turns = ()
    raw: Mapping = field(default_factory=dict, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The labels, joined to one text; a gap is filled with its description."""
        return join_answer(label or described for label, described in self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each label with its description, either of which may be empty."""
        return list(zip_longest(self.labels, self.labels_descriptive, fillvalue=""))

    @property
    def turns(self) -> Turns:
        """Questions and answers. The answer of labels is their descriptions, or the bare label where one is missing."""
        answer = join_answer(described or label for label, described in self.pairs)
        return self.dialogue or (((None, answer),) if answer else ())


class _Malformed(ValueError):
    """What is wrong with an entry, without its place."""


def read_labels(
    path: str | Path, data_root: str, source: str = "labels", findings: Findings | None = None
) -> list[Label]:
    """Read a label file of QEVD, a list of entries or an object keyed by clip; or ``labels.csv``, see `read_rows`.

    Args:
        path: The file.
        data_root: The data set's folder, relative to the project.
        source: Kind of the file. ``labels``: as ``fine_grained_labels.json``. ``feedbacks``: as
            ``feedbacks_short_clips.json``; the feedbacks of a clip are joined to one answer. ``questions``: as
            ``questions.json``; each question and its answer become one sample.
        findings: Collects questions that were left out.

    Raises:
        InputError: If the file is missing or malformed; the message names the entry.
    """
    findings = Findings() if findings is None else findings
    expected = f"expected {_EXPECTED[source]}"
    labels = []
    for where, key, value in _entries(path, expected):
        if key is not None and not isinstance(value, dict):
            value = {source: value}
        if not isinstance(value, dict):
            raise InputError(f"{where}: is a {type(value).__name__}; {expected}")
        name = value.get("video_path") or key
        if not isinstance(name, str):
            raise InputError(f"{where}: has no video_path; {expected}")
        name, segment = read_segment(name, value.get("start"), value.get("end"), where)
        split = value.get("split")
        try:
            labels.append(
                Label(
                    label_path(name, data_root, where),
                    segment=segment,
                    split=None if split is None else str(split).strip().lower() or None,
                    origin=where,
                    raw=value,
                    **_ANSWERS[source](value, where, findings),
                )
            )
        except _Malformed as error:
            raise InputError(f"{where}: {error}; {expected}") from None
    return labels


def labels_of_folders(clips: Iterable[Clip], data_root: str) -> list[Label]:
    """Return a label of each clip whose answer is the exercise: those of ``annotations.source: folders``."""
    below = len(data_root.rstrip("/")) + 1
    labels = []
    for clip in clips:
        file, segment = split_segment(clip.path)
        name = (clip.exercise.replace("_", " "),)
        raw = {"video_path": clip.path, "labels": list(name), "labels_descriptive": list(name)}
        labels.append(Label(file[below:], name, name, segment=segment, origin=f"the exercise of {clip.path}", raw=raw))
    return labels


def find_label_file(data_root: str, source: str) -> str:
    """Return the file with the answers: the user's selection if there is one, else the whole one.

    Raises:
        InputError: If there is none; the message says what it may be, and names CSV files of other names.
    """
    names = [f"{data_root}/{name}" for name in ANSWER_FILES[source]]
    if found := next((name for name in names if Path(name).exists()), None):
        return found
    missing = f"no {source}: there is no {' or '.join(names)}"
    if source != "labels":
        raise InputError(f"{missing}; add it, with entries such as {_EXPECTED[source]}, or change annotations.source")
    others = sorted(str(path) for path in Path(data_root).glob("*.csv") if path.name not in ("splits.csv", LABELS_CSV))
    seen = f" ({', '.join(others)} is there: if it has the labels, rename it to {LABELS_CSV})" if others else ""
    raise InputError(
        f"{missing}{seen}; `snakemake manifest` writes {data_root}/{LABELS_CSV} with every clip, for you to fill in: "
        f"{CSV_FORMAT}; or set annotations.source: folders, and the answer is the exercise"
    )


def _entries(path: str | Path, expected: str) -> Iterator[tuple[str, str | None, object]]:
    """Yield place, key (None in a list) and value of each entry."""
    if str(path).lower().endswith(".csv"):
        yield from ((where, None, value) for where, value in read_rows(path))
        return
    content = read_json(path, "put the file there, or write it again as JSON", object_pairs_hook=_unambiguous)
    if not isinstance(content, dict | list):
        raise InputError(f"{path}: contains a {type(content).__name__}; {expected} in a list")
    if not content:
        raise InputError(f"{path}: has no entry; {expected} in a list")
    if isinstance(content, dict):
        yield from ((f"{path}, entry {key!r}", key, value) for key, value in content.items())
    else:
        yield from ((f"{path}, entry {i}", None, value) for i, value in enumerate(content, 1))


def _unambiguous(pairs: list[tuple[str, object]]) -> dict:
    entry = dict(pairs)
    if len(entry) < len(pairs) and any(entry[key] != value for key, value in pairs):
        twice = next(key for key, value in pairs if entry[key] != value)
        raise ValueError(f"{twice!r} occurs twice in one object, with different values")
    return entry


def _labels(value: dict, where: str, findings: Findings) -> dict:
    names = ("labels", "labels_descriptive")
    columns = (_texts(value.get(name), name, keep_empty=True) for name in names)
    rows = [row for row in zip_longest(*columns, fillvalue="") if any(row)]
    return {name: column if any(column) else () for name, column in zip(names, zip(*rows, strict=True), strict=False)}


def _feedbacks(value: dict, where: str, findings: Findings) -> dict:
    name = "feedbacks" if "feedbacks" in value else "feedback"
    answer = " ".join(_texts(value.get(name), name))
    return {"dialogue": ((None, answer),) if answer else ()}


def _questions(value: dict, where: str, findings: Findings) -> dict:
    dialogue = {}  # an ordered set: both levels may ask the same
    for level in _QUESTION_LEVELS:
        group = value.get(level)
        if group is None:
            continue
        if not isinstance(group, dict):
            raise _Malformed(f"{level} is a {type(group).__name__}")
        asked, answered = (_texts(group.get(name), f"{level}.{name}", True) for name in ("query", "response"))
        if len(asked) != len(answered):
            raise _Malformed(f"{level} has {len(asked)} queries, but {len(answered)} responses")
        for question, answer in zip(asked, answered, strict=True):
            if question and answer:
                dialogue[question, answer] = None
            else:
                findings.add(Code.INCOMPLETE_QUESTION, f"{where}, {level}")
    return {"dialogue": tuple(dialogue)}


# How the answers of each source are read: fields of `Label`.
_ANSWERS: dict[str, Callable[[dict, str, Findings], dict]] = {
    "labels": _labels,
    "feedbacks": _feedbacks,
    "questions": _questions,
}


def _texts(value: object, name: str, keep_empty: bool = False) -> tuple[str, ...]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise _Malformed(f"{name} is neither a text nor a list of texts")
    texts = []
    for text in values:
        if not isinstance(text, str):
            raise _Malformed(f"{name} is neither a text nor a list of texts")
        if not text.isascii() and _SURROGATE.search(text):
            raise _Malformed(f"{name} contains half a character ({text!r})")
        if "<video>" in text:
            raise _Malformed(f"{name} contains <video>, the placeholder of the clip")
        if (stripped := text.strip()) or keep_empty:
            texts.append(stripped)
    return tuple(texts)
