"""The manifest: which clips there are, and the exercise of each.

Standard library only, since the Snakefile reads the manifest whenever it is parsed.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.paths import UNUSABLE, VIDEO_SUFFIXES, leaves, relative_path

# What was passed over or guessed: items (clips, records) by reason.
Findings = defaultdict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and its exercise.

    Attributes:
        path: POSIX path relative to the project, ``dataset/squats/0001.mp4``.
        exercise: Name with underscores, ``tricep_stretch``.
    """

    path: str
    exercise: str


def read_manifest(
    path: str | Path, data_root: str, exclude: Iterable[str] = (), findings: Findings | None = None
) -> list[Clip]:
    """Read ``{clip path: exercise}``, sorted by path.

    A value is the exercise (spaces or underscores), or an object whose ``exercise`` may be missing; the clip's folder
    then names the exercise. The files are not looked at, except for names beyond ASCII: one that is there in the other
    Unicode form (macOS decomposes accents) is taken as it stands on the disk.

    Args:
        path: The manifest.
        data_root: The data set's folder, relative to the project.
        exclude: Clips to leave out, spelled like those of the manifest.
        findings: Gets what was passed over or guessed.

    Raises:
        InputError: If the manifest is missing, malformed, empty or contradicts itself, or a path leaves the folder.
    """
    findings = Findings(list) if findings is None else findings
    clips: dict[str, str] = {}
    for key, value in _read_pairs(path):
        name = _as_on_disk(relative_path(key, data_root, str(path)), data_root)
        plain = isinstance(value, str) and value.isidentifier()  # most are, and 300,000 of them are to take a second
        exercise = value if plain else _exercise(value, name, path, key, findings)
        if name in clips:
            if clips[name] != exercise:
                raise InputError(
                    f"{path}: the clip {name!r} stands there twice, as {clips[name]!r} and as {exercise!r}; "
                    "delete one entry"
                )
            findings["entries of the manifest that say the same twice"].append(key)
        clips[name] = exercise
    for name in exclude:
        excluded = _as_on_disk(relative_path(name, data_root, "dataset.exclude"), data_root)
        if clips.pop(excluded, None) is None:
            raise InputError(f"dataset.exclude names {name!r}, which {path} does not list; correct or remove it")
        findings["clips left out by dataset.exclude"].append(excluded)
    if not clips:
        raise InputError(f"{path}: no clip is left to work with; add entries, or shorten dataset.exclude")
    return [Clip(f"{data_root}/{name}", clips[name]) for name in sorted(clips)]


def _read_pairs(path: str | Path) -> list[tuple[str, object]]:
    """The entries in order of the file; JSON readers drop all but the last of equal keys."""
    remedy = '`snakemake manifest` makes one from the clips; by hand: {"dataset/squats/0001.mp4": "squats"}'
    pairs = read_json(path, remedy, object_pairs_hook=_Pairs)
    if not isinstance(pairs, _Pairs):
        raise InputError(f"{path}: holds a {type(pairs).__name__}, not an object of clips; {remedy}")
    return pairs


class _Pairs(list):
    """A JSON object as its pairs."""


def _as_on_disk(name: str, data_root: str) -> str:
    if name.isascii() or os.path.exists(f"{data_root}/{name}"):
        return name
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.exists(f"{data_root}/{form}")), name)


def _exercise(value: object, name: str, file: str | Path, key: str, findings: Findings) -> str:
    if isinstance(value, _Pairs):
        value = dict(value).get("exercise")
    if value is None:
        value = name.rpartition("/")[0].rpartition("/")[2]
        findings["clips whose exercise is their folder's name"].append(name)
    if isinstance(value, list):
        raise InputError(f'{file}, record {key!r}: the exercise is no name; write one, such as "squats"')
    exercise = re.sub(r"\s+", "_", str(value).strip())
    if not exercise:
        raise InputError(
            f"{file}, record {key!r}: names no exercise; write it as the value, or put the clip into its folder"
        )
    if UNUSABLE.search(exercise):
        raise InputError(
            f'{file}, record {key!r}: the exercise {exercise!r} holds one of {{ }} < > " or a control character; '
            "write a plain name"
        )
    return exercise


def build_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> tuple[dict[str, str], dict]:
    """Make a manifest of ``<data_root>/<exercise>/*.mp4``, or of the other `VIDEO_SUFFIXES`.

    The first of ``label_files`` that is there counts. With labels, a clip without one is left out (it could not be
    trained on), and the clips of ``short_clips/``, the folder QEVD unpacks into, take their exercise from the label.

    Returns:
        The manifest, and a report: ``labels`` (the file read, or None), ``exercises`` (clips of each), ``left_out``
        (clips by reason), ``labels_without_clip`` (number).

    Raises:
        InputError: If no clip is left.
    """
    from mobilevideogpt.annotations.labels import WITHOUT_CLIP, match_records, read_records  # they stand on this module

    left_out = Findings(list)
    clips = []
    for file in sorted(videos_in(data_root)):
        folder = os.path.dirname(file)
        try:
            if leaves(f"{data_root}/{file}", data_root):
                raise InputError(f"is a link out of {data_root}/; copy what it points to there")
            if not os.path.isfile(f"{data_root}/{file}"):
                raise InputError("is no file")
            if not folder or "/" in folder:
                raise InputError(f"lies not at {data_root}/<exercise>/<clip>")
            name = relative_path(file, data_root, data_root)
            clips.append(Clip(f"{data_root}/{name}", _exercise(folder, name, data_root, file, left_out)))
        except InputError as error:
            shown = file.encode(errors="backslashreplace").decode()  # a name on disk need not be UTF-8
            left_out[str(error).removeprefix(f"{data_root}: ")].append(f"{data_root}/{shown}")
    labels = next((file for file in label_files if os.path.exists(file)), None)
    records = [] if labels is None else read_records(labels, data_root)
    matched = match_records(clips, records)
    manifest = {}
    for clip in clips:
        record = matched.by_clip.get(clip.path)
        exercise = clip.exercise
        if labels is not None and record is None:
            left_out[f"has no label in {labels}"].append(clip.path)
            continue
        if exercise == "short_clips" and record is not None:
            exercise = _exercise(record.text.partition(" - ")[0], clip.path, labels, clip.path, left_out)
        manifest[clip.path] = exercise
    if not manifest:
        found = f"{len(clips)} clips, none with a label in {labels}" if clips else "no clip"
        raise InputError(f"{data_root}: found {found}; put clips at {data_root}/<exercise>/<clip>.mp4, with labels")
    return manifest, {
        "labels": labels and str(labels),
        "exercises": dict(sorted(Counter(manifest.values()).items())),
        "left_out": dict(left_out),
        "labels_without_clip": len(matched.findings[WITHOUT_CLIP]),
    }


def videos_in(data_root: str) -> Iterable[str]:
    """Names of all video files below a folder, but hidden ones and those that the workflow itself put there."""
    for top, folders, files in os.walk(data_root):
        within = os.path.relpath(top, data_root)
        hidden = {"sample", "hub"} if within == "." else set()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in hidden]
        clips = [name for name in files + folders if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]  # not followed, but told
        yield from (os.path.normpath(os.path.join(within, name)) for name in {*clips, *links})


def write_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> str:
    """Write ``<data_root>/manifest.json`` and say in a few lines what was matched and what was not.

    Raises:
        InputError: If there is a manifest already; it is never overwritten. Also see `build_manifest`.
    """
    path = Path(data_root) / "manifest.json"
    if os.path.lexists(path):
        raise InputError(
            f"{path}: exists already and is left as it is; add new clips to it, or move it away to have it made anew"
        )
    manifest, report = build_manifest(data_root, label_files)
    write_json(manifest, path)
    lines = [f"{path}: {len(manifest)} clips"]
    lines += [f"  {count:6d}  {exercise}" for exercise, count in report["exercises"].items()]
    if report["labels"] is None:
        lines.append("no label file is there yet: add one before `snakemake annotations`")
    else:
        lines.append(f"{report['labels']}: {report['labels_without_clip']} records speak of no clip here")
    for reason, items in report["left_out"].items():
        lines.append(f"left out, {len(items)}: {reason}")
        lines += [f"  {item}" for item in items[:10]] + ["  ..."] * (len(items) > 10)
    return "\n".join(lines)
