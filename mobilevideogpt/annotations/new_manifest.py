"""Build a manifest from the clips on the disk and their labels, and write it or add to it. Standard library only."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.annotations.answers import exercise_named, fold_name
from mobilevideogpt.annotations.clips import Clip, exercise_name, videos_in, where_videos_were_sought
from mobilevideogpt.annotations.findings import REASONS, Code, Findings, first_of
from mobilevideogpt.annotations.join import match_labels
from mobilevideogpt.annotations.label_table import (
    LABELS_CSV,
    add_to_template,
    is_template,
    write_template,
)
from mobilevideogpt.annotations.labels import Label, read_labels
from mobilevideogpt.annotations.manifest import REMEDY as MANIFEST_REMEDY
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.unlisted import fault_of
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.paths import join_key, relative_path
from mobilevideogpt.segments import file_of
from mobilevideogpt.wording import agree, counted

QEVD_FOLDER = "short_clips"  # QEVD unpacks all clips into it, so it names no exercise
LEFT_OUT = (Code.LINK_OUTSIDE, Code.NOT_A_FILE, Code.MISPLACED, Code.UNUSABLE_NAME, Code.WITHOUT_LABEL)


@dataclass
class NewManifest:
    """A manifest, and what was found while it was built.

    Attributes:
        entries: Clip path to exercise: the content of the file.
        label_file: The label file that was read, if there is one.
        unlabelled: Clips among the entries that have no label yet.
        findings: The clips that were left out, the labels without a clip.
    """

    entries: dict[str, str] = field(default_factory=dict)
    label_file: str | None = None
    unlabelled: list[Clip] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def build_manifest(data_root: str, label_files: Iterable[str | Path] = (), known: Collection[str] = ()) -> NewManifest:
    """Build the manifest of ``<data_root>/<exercise>/*.mp4``, or of the other `VIDEO_SUFFIXES`.

    The first of ``label_files`` that exists is read. A clip without a label is then left out, since it cannot be
    trained on; a template of labels (`label_table.is_template`) gets a line for it instead. The labels name the
    exercises of the clips in folders that are no exercise's, see `_Exercises`.

    Args:
        data_root: The data set's folder.
        label_files: Possible files of labels.
        known: Clips that a manifest has already; they are not among the entries.

    Raises:
        InputError: If no clip is left, and none is known.
    """
    label_file = next((str(file) for file in label_files if os.path.exists(file)), None)
    new = NewManifest(label_file=label_file)
    clips = _clips_on_disk(data_root, new.findings)
    labels = [] if label_file is None else read_labels(label_file, data_root)
    fills_template = label_file is not None and is_template(label_file)
    matched = match_labels([Clip(path, "") for path in clips], labels, new.findings, data_root)
    exercises = _Exercises(data_root, matched.by_clip)
    named = set(map(join_key, known))
    for path in clips:
        if join_key(path) in named:
            continue
        label = matched.by_clip.get(path)
        if label is None and label_file is not None and not fills_template:
            new.findings.add(Code.WITHOUT_LABEL, path)
        elif exercise := exercises.of(path, label):
            new.entries[path] = exercise
            if label is None:
                new.unlabelled.append(Clip(path, exercise))
        else:
            new.findings.add(Code.MISPLACED, path)
    if not new.entries and not known:
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
        f"{counted(len(items), REASONS[code])} (such as {items[0]})"
        for code in LEFT_OUT
        if (items := new.findings.items(code))
    ]
    if clips and labels:
        return (
            f"{data_root}: found {counted(len(clips), 'clip{s}')}, none with a label in {new.label_file}, whose first "
            f"one is of {labels[0].path!r}; left out: {', '.join(left_out)}; {remedy}"
        )
    left = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"{data_root}: found no clip; {where_videos_were_sought(data_root)}{left}; {remedy}"


def _clips_on_disk(data_root: str, findings: Findings) -> list[str]:
    """Return the paths of the clips that a manifest can name; collect the others."""
    clips = []
    for file in sorted(videos_in(data_root)):
        if code := fault_of(data_root, file):
            shown = file.encode(errors="backslashreplace").decode()  # a name on the disk may not be UTF-8
            findings.add(code, f"{data_root}/{shown}")
        else:
            clips.append(f"{data_root}/{relative_path(file, data_root, data_root)}")
    return clips


def write_manifest(data_root: str, label_files: Iterable[str | Path] = (), template: bool = True) -> str:
    """Write ``<data_root>/manifest.json``, or add the clips that it does not name; no line that is there changes.

    Without a label file, a template to fill in is written as ``labels.csv``; a template gets lines for the new clips.

    Args:
        data_root: The data set's folder.
        label_files: Possible files of labels.
        template: Whether a template is written where there are no labels.

    Returns:
        A few lines for the user: the clips of each exercise, the clips that were left out, and what to do next.

    Raises:
        InputError: If the manifest that is there is malformed. Also see `build_manifest`.
    """
    path = Path(data_root) / "manifest.json"
    there = os.path.lexists(path)
    known = _known_clips(path, data_root) if there else []
    new = build_manifest(data_root, label_files, [file_of(clip.path) for clip in known])
    if not there:
        write_json(new.entries, path)
    elif new.entries:
        text = path.read_bytes().decode("utf-8")
        write_text(with_entries(text, new.entries), path.resolve())
    labels = _write_template(data_root, new, known) if template or new.label_file else []
    return "\n".join([*_lines(path, new, known if there else None), *labels])


def _known_clips(path: Path, data_root: str) -> list[Clip]:
    """Return the clips of a manifest, which may be empty."""
    return read_manifest(path, data_root) if read_json(path, MANIFEST_REMEDY, shape=object) else []


def with_entries(text: str, entries: Mapping[str, str]) -> str:
    """Add entries at the end of a manifest, an object or a list; every line that is there stays as it is.

    A new line begins with the comma that the last old one lacks. Where the closing bracket is on the line of an entry,
    that line ends before it.

    Args:
        text: The manifest, valid JSON.
        entries: Clip path to exercise.
    """
    close = len(text.rstrip()) - 1
    body, is_list = text[:close], text[close] == "]"
    new_line = "\r\n" if "\r\n" in text else "\n"
    last = body.rstrip()
    lines = body.splitlines()
    indent = lines[-1][: len(lines[-1]) - len(lines[-1].lstrip())] if len(lines) > 1 else " "
    texts = [
        json.dumps({"path": path, "exercise": exercise}, ensure_ascii=False)
        if is_list
        else f"{json.dumps(path, ensure_ascii=False)}: {json.dumps(exercise, ensure_ascii=False)}"
        for path, exercise in entries.items()
    ]
    start = (
        body if body.endswith(("\n", "\r")) else body.rstrip(" \t") + new_line * (not body.rstrip(" \t").endswith("\n"))
    )
    first = f"{indent}{'' if last.endswith(('{', '[')) else ', '}"
    return start + first + f",{new_line}{indent}".join(texts) + new_line + text[close:]


def _write_template(data_root: str, new: NewManifest, known: Sequence[Clip]) -> list[str]:
    """Write a template of labels, or add to one; say what to do with it."""
    remedy = "write an answer for each clip into the column label, such as `knees in`; the exercise is put in front"
    if new.label_file is None:
        path = f"{data_root}/{LABELS_CSV}"
        clips = sorted([*known, *(Clip(path, exercise) for path, exercise in new.entries.items())], key=_path)
        write_template(path, clips, data_root)
        return [f"{path}: a template for the labels of {counted(len(clips), 'clip{s}')}; {remedy}"]
    if new.unlabelled:
        add_to_template(new.label_file, new.unlabelled, data_root)
        return [f"{new.label_file}: {counted(len(new.unlabelled), 'line{s}')} added; {remedy}"]
    return []


def _path(clip: Clip) -> str:
    return clip.path


def _lines(path: Path, new: NewManifest, known: Sequence[Clip] | None) -> list[str]:
    number = counted(len(new.entries), "clip{s}")
    if known is None:
        lines = [f"{path}: {number}"]
    elif new.entries:
        lines = [f"{path}: {number} added to {len(known)}"]
    else:
        lines = [f"{path}: names all {counted(len(known), 'clip{s}')} that it can name; nothing is added"]
    lines += [f"  {count:6d}  {exercise}" for exercise, count in sorted(Counter(new.entries.values()).items())]
    if unused := new.findings.items(Code.LABEL_WITHOUT_CLIP):
        lines.append(f"{new.label_file}: {counted(len(unused), 'label{s} {has|have}')} no clip here")
    lines += [sentence for _, sentence in new.findings.notices]
    for code in LEFT_OUT:
        if items := new.findings.items(code):
            lines.append(f"left out, {len(items)}: {agree(len(items), REASONS[code])}")
            lines += [f"  {item}" for item in items[:10]] + ["  ..."] * (len(items) > 10)
    if new.findings.items(Code.WITHOUT_LABEL):
        lines.append(f"add their labels to {new.label_file}, and run `snakemake manifest` again")
    return lines
