"""Build a manifest from the clips on the disk and their labels, and write it. Standard library only."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.annotations.clips import Clip, exercise_name, videos_in
from mobilevideogpt.annotations.findings import REASONS, Code, Findings
from mobilevideogpt.annotations.join import match_labels
from mobilevideogpt.annotations.labels import read_labels
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
    trained on. The clips of ``short_clips/`` get their exercise from the label.

    Raises:
        InputError: If no clip is left.
    """
    label_file = next((str(file) for file in label_files if os.path.exists(file)), None)
    new = NewManifest(label_file=label_file)
    clips = _clips_on_disk(data_root, new.findings)
    labels = [] if label_file is None else read_labels(label_file, data_root)
    matched = match_labels(clips, labels, new.findings, data_root)
    for clip in clips:
        label = matched.by_clip.get(clip.path)
        if label is None and label_file is not None:
            new.findings.add(Code.WITHOUT_LABEL, clip.path)
        elif label is not None and clip.exercise == QEVD_FOLDER:
            new.entries[clip.path] = exercise_name(label.text.partition(" - ")[0], label.origin)
        else:
            new.entries[clip.path] = clip.exercise
    if not new.entries:
        found = f"{len(clips)} clips, none with a label in {label_file}" if clips else "no clip"
        raise InputError(f"{data_root}: found {found}; put clips at {data_root}/<exercise>/<clip>.mp4, with labels")
    return new


def _clips_on_disk(data_root: str, findings: Findings) -> list[Clip]:
    """Return the clips that a manifest can name; collect the others."""
    clips = []
    for file in sorted(videos_in(data_root)):
        folder = os.path.dirname(file)
        if code := _fault(data_root, file, folder):
            shown = file.encode(errors="backslashreplace").decode()  # a name on the disk may not be UTF-8
            findings.add(code, f"{data_root}/{shown}")
        else:
            path = f"{data_root}/{relative_path(file, data_root, data_root)}"
            clips.append(Clip(path, exercise_name(folder, path)))
    return clips


def _fault(data_root: str, file: str, folder: str) -> Code | None:
    """Return why a file cannot be a clip of the manifest, or None."""
    if leaves(f"{data_root}/{file}", data_root):
        return Code.LINK_OUTSIDE
    if not os.path.isfile(f"{data_root}/{file}"):
        return Code.NOT_A_FILE
    if not folder or "/" in folder:
        return Code.MISPLACED
    try:
        relative_path(file, data_root, data_root)
        exercise_name(folder, data_root)
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
    for code in LEFT_OUT:
        if items := new.findings.items(code):
            lines.append(f"left out, {len(items)}: {REASONS[code]}")
            lines += [f"  {item}" for item in items[:10]] + ["  ..."] * (len(items) > 10)
    return lines
