"""Build a manifest from the clips on the disk and their labels, and write it. Standard library only."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.annotations.answers import exercise_named, fold_name
from mobilevideogpt.annotations.clips import Clip, exercise_name, videos_in, where_videos_were_sought
from mobilevideogpt.annotations.findings import REASONS, Code, Findings, first_of
from mobilevideogpt.annotations.join import match_labels
from mobilevideogpt.annotations.labels import Label, read_labels
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json
from mobilevideogpt.paths import leaves, relative_path

QEVD_FOLDER = "short_clips"  # QEVD unpacks all clips into it, so it names no exercise
LEFT_OUT = (Code.LINK_OUTSIDE, Code.NOT_A_FILE, Code.MISPLACED, Code.UNUSABLE_NAME, Code.WITHOUT_LABEL)


@dataclass
class NewManifest:
    """A manifest, and what was found while it was built.

    Attributes:
        entries: Clip path to exercise: the content of the file.
        label_file: The label file that was read, if there is one.
        findings: The clips that were left out, the labels without a clip.
    """

    entries: dict[str, str] = field(default_factory=dict)
    label_file: str | None = None
    findings: Findings = field(default_factory=Findings)


def build_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> NewManifest:
    """Build the manifest of ``<data_root>/<exercise>/*.mp4``, or of the other `VIDEO_SUFFIXES`.

    The first of ``label_files`` that exists is read. A clip without a label is then left out, since it cannot be
    trained on. The labels name the exercises of the clips in folders that are no exercise's, see `_Exercises`.

    Raises:
        InputError: If no clip is left.
    """
    label_file = next((str(file) for file in label_files if os.path.exists(file)), None)
    new = NewManifest(label_file=label_file)
    clips = _clips_on_disk(data_root, new.findings)
    labels = [] if label_file is None else read_labels(label_file, data_root)
    matched = match_labels([Clip(path, "") for path in clips], labels, new.findings, data_root)
    exercises = _Exercises(data_root, matched.by_clip)
    for path in clips:
        label = matched.by_clip.get(path)
        if label is None and label_file is not None:
            new.findings.add(Code.WITHOUT_LABEL, path)
        elif exercise := exercises.of(path, label):
            new.entries[path] = exercise
        else:
            new.findings.add(Code.MISPLACED, path)
    if not new.entries:
        raise InputError(_nothing_found(data_root, clips, labels, new))
    exercises.report(new)
    return new


class _Exercises:
    """Decides which folders are those of an exercise.

    A folder of clips is an exercise's unless its labels name several (most of them another one than the folder), or
    one that a folder of several contains, too. Neither is ``short_clips/``, nor a folder in another one. The clips of
    these have the exercise that their label names: ``squats - good form``.

    Args:
        data_root: The data set's folder.
        by_clip: Clip path to its label.
    """

    def __init__(self, data_root: str, by_clip: Mapping[str, Label]):
        self._below = len(data_root.rstrip("/")) + 1
        self._from_label: dict[str, str] = {}  # clip -> its folder
        spelled: dict[str, Counter[str]] = defaultdict(Counter)  # folded name of an exercise -> as labels write it
        in_folder: dict[str, Counter[str]] = defaultdict(Counter)  # folder -> folded names
        for path, label in by_clip.items():
            if named := _named(label):
                spelled[fold_name(named)][named] += 1
                in_folder[self._folder(path)][fold_name(named)] += 1
        self._names = {folded: max(sorted(texts), key=lambda text: texts[text]) for folded, texts in spelled.items()}
        others = {
            folder: names
            for folder, names in in_folder.items()
            if 2 * names[fold_name(os.path.basename(folder))] < names.total()
        }
        several = {folder for folder, names in others.items() if len(names) > 1}
        theirs = {name for folder in several for name in in_folder[folder]}
        self._no_exercise = several | {folder for folder, names in others.items() if names.keys() <= theirs}

    def _folder(self, path: str) -> str:
        return os.path.dirname(path[self._below :])

    def of(self, path: str, label: Label | None) -> str | None:
        """Return the exercise of a clip; None if nothing names it."""
        folder = self._folder(path)
        name = os.path.basename(folder)
        may_be_exercise = bool(name) and name != QEVD_FOLDER and folder not in self._no_exercise
        if may_be_exercise and folder == name:
            return exercise_name(name, path)
        if label is None:
            return None
        named = _named(label)
        if named is None and (folder == QEVD_FOLDER or fold_name(label.text) in self._names):
            named = label.text  # the bare exercise
        if named is None:
            return exercise_name(name, path) if may_be_exercise else None
        self._from_label[path] = folder
        return exercise_name(self._names.get(fold_name(named), named), label.origin)

    def report(self, new: NewManifest) -> None:
        """Say once for which folders the labels named the exercises."""
        clips = [path for path in self._from_label if path in new.entries]
        if clips:
            folders = sorted({f"{self._from_label[path] or '.'}/" for path in clips})
            exercises = sorted({new.entries[path] for path in clips})
            new.findings.notice(
                Code.EXERCISE_FROM_LABEL,
                count=len(clips),
                exercises=first_of(exercises, 6),
                folders=first_of(folders, 6),
            )


def _named(label: Label) -> str | None:
    """Return the exercise that a label names before a dash."""
    return next((name for pair in label.pairs for text in pair if text and (name := exercise_named(text))), None)


def _nothing_found(data_root: str, clips: list[str], labels: list[Label], new: NewManifest) -> str:
    """Say why a manifest would be empty."""
    remedy = f"put clips at {data_root}/<exercise>/<clip>.mp4, with labels"
    left_out = [
        f"{len(items)} {REASONS[code]} (such as {items[0]})" for code in LEFT_OUT if (items := new.findings.items(code))
    ]
    if clips and labels:
        return (
            f"{data_root}: found {len(clips)} clips, none with a label in {new.label_file}, whose first one is of "
            f"{labels[0].path!r}; left out: {', '.join(left_out)}; {remedy}"
        )
    left = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"{data_root}: found no clip; {where_videos_were_sought(data_root)}{left}; {remedy}"


def _clips_on_disk(data_root: str, findings: Findings) -> list[str]:
    """Return the paths of the clips that a manifest can name; collect the others."""
    clips = []
    for file in sorted(videos_in(data_root)):
        if code := _fault(data_root, file):
            shown = file.encode(errors="backslashreplace").decode()  # a name on the disk may not be UTF-8
            findings.add(code, f"{data_root}/{shown}")
        else:
            clips.append(f"{data_root}/{relative_path(file, data_root, data_root)}")
    return clips


def _fault(data_root: str, file: str) -> Code | None:
    """Return why a file cannot be a clip of the manifest, or None."""
    if leaves(f"{data_root}/{file}", data_root):
        return Code.LINK_OUTSIDE
    if not os.path.isfile(f"{data_root}/{file}"):
        return Code.NOT_A_FILE
    try:
        relative_path(file, data_root, data_root)
        if folder := os.path.dirname(file):
            exercise_name(os.path.basename(folder), data_root)
    except InputError:
        return Code.UNUSABLE_NAME
    return None


def write_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> str:
    """Write ``<data_root>/manifest.json``.

    Returns:
        A few lines for the user: the clips of each exercise, and the clips that were left out.

    Raises:
        InputError: If there is a manifest already; it is never overwritten. Also see `build_manifest`.
    """
    path = Path(data_root) / "manifest.json"
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already and is kept; add new clips to it, or move it away and run again")
    new = build_manifest(data_root, label_files)
    write_json(new.entries, path)
    return "\n".join(_lines(path, new))


def _lines(path: Path, new: NewManifest) -> list[str]:
    lines = [f"{path}: {len(new.entries)} clips"]
    lines += [f"  {count:6d}  {exercise}" for exercise, count in sorted(Counter(new.entries.values()).items())]
    if new.label_file is None:
        lines.append("no label file yet: add one before `snakemake annotations`")
    else:
        unused = len(new.findings.items(Code.LABEL_WITHOUT_CLIP))
        lines.append(f"{new.label_file}: {unused} labels have no clip here")
    lines += [sentence for _, sentence in new.findings.notices]
    for code in LEFT_OUT:
        if items := new.findings.items(code):
            lines.append(f"left out, {len(items)}: {REASONS[code]}")
            lines += [f"  {item}" for item in items[:10]] + ["  ..."] * (len(items) > 10)
    return lines
