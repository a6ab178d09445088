"""The manifest: which clips there are, and the exercise of each.

Standard library only, since the Snakefile reads the manifest whenever it is parsed.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json
from mobilevideogpt.paths import leaves, relative_path


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and its exercise.

    Attributes:
        path: POSIX path relative to the project, ``dataset/squats/0001.mp4``.
        exercise: Name with underscores, ``tricep_stretch``.
    """

    path: str
    exercise: str


def read_manifest(path: str | Path, data_root: str, exclude: Iterable[str] = ()) -> list[Clip]:
    """Read ``{clip path: exercise}``, sorted by path.

    A value is the exercise (spaces or underscores), or an object whose ``exercise`` may be missing; the clip's folder
    then names the exercise. The files themselves are not looked at.

    Args:
        path: The manifest.
        data_root: The data set's folder, relative to the project.
        exclude: Clips to leave out, spelled like those of the manifest.

    Raises:
        InputError: If the manifest is missing, malformed, empty or contradicts itself, or a path leaves the folder.
    """
    clips: dict[str, str] = {}
    for key, value in _read_pairs(path):
        name = relative_path(key, data_root, str(path))
        plain = isinstance(value, str) and value.isidentifier()  # most are, and 300,000 of them are to take a second
        exercise = value if plain else _exercise(value, name, path, key)
        if clips.setdefault(name, exercise) != exercise:
            raise InputError(
                f"{path}: the clip {name!r} stands there twice, as {clips[name]!r} and as {exercise!r}; "
                "delete one entry"
            )
    for name in exclude:
        if clips.pop(relative_path(name, data_root, "dataset.exclude"), None) is None:
            raise InputError(f"dataset.exclude names {name!r}, which {path} does not list; correct or remove it")
    if not clips:
        raise InputError(f"{path}: no clip is left to work with; add entries, or shorten dataset.exclude")
    return [Clip(f"{data_root}/{name}", clips[name]) for name in sorted(clips)]


def _read_pairs(path: str | Path) -> list[tuple[str, object]]:
    """The entries in order of the file; JSON readers drop all but the last of equal keys."""
    remedy = '`snakemake manifest` makes one from the clips; by hand: {"dataset/squats/0001.mp4": "squats"}'
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from None
    if not isinstance(pairs, _Pairs):
        raise InputError(f"{path}: holds a {type(pairs).__name__}, not an object of clips; {remedy}")
    return pairs


class _Pairs(list):
    """A JSON object as its pairs."""


def _exercise(value: object, name: str, file: str | Path, key: str) -> str:
    if isinstance(value, _Pairs):
        value = dict(value).get("exercise")
    if value is None:
        value = name.rpartition("/")[0].rpartition("/")[2]
    if isinstance(value, list):
        raise InputError(f'{file}, record {key!r}: the exercise is a list; write one name, such as "squats"')
    exercise = re.sub(r"\s+", "_", str(value).strip())
    if not exercise:
        raise InputError(
            f"{file}, record {key!r}: names no exercise; write it as the value, or put the clip into its folder"
        )
    return exercise


def build_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> tuple[dict[str, str], dict]:
    """Make a manifest of ``<data_root>/<exercise>/*.mp4``.

    The first of ``label_files`` that is there counts. With labels, a clip without one is left out (it could not be
    trained on), and the clips of ``short_clips/``, the folder QEVD unpacks into, take their exercise from the label.

    Returns:
        The manifest, and a report: ``labels`` (the file read, or None), ``clips`` (number), ``exercises`` (clips of
        each), ``without_label`` (paths), ``refused`` (texts), ``labels_without_clip`` (number).

    Raises:
        InputError: If no clip is left.
    """
    from mobilevideogpt.data.labels import match_records, read_labels  # they stand on this module

    clips, refused = [], []
    for folder in sorted(Path(data_root).iterdir()) if Path(data_root).is_dir() else ():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() != ".mp4" or file.name.startswith("."):
                continue
            try:
                name = relative_path(f"{folder.name}/{file.name}", data_root, data_root)
                if leaves(file, data_root):
                    raise InputError(f"{file}: is a link out of {data_root}/; copy the clip there")
                clips.append(Clip(f"{data_root}/{name}", _exercise(folder.name, name, data_root, file.name)))
            except InputError as error:
                refused.append(str(error))
    labels = next((file for file in label_files if os.path.exists(file)), None)
    records = [] if labels is None else read_labels(labels, data_root)
    matched = match_records(clips, records).by_clip
    manifest = {}
    for clip in clips:
        if clip.path in matched or labels is None:
            exercise = clip.exercise
            if exercise == "short_clips" and clip.path in matched:
                exercise = _exercise(matched[clip.path].text.partition(" - ")[0], clip.path, labels, clip.path)
            manifest[clip.path] = exercise
    report = {
        "labels": labels and str(labels),
        "clips": len(manifest),
        "exercises": dict(sorted(Counter(manifest.values()).items())),
        "without_label": [clip.path for clip in clips if labels and clip.path not in matched],
        "labels_without_clip": len(records) - len({id(record) for record in matched.values()}),
        "refused": refused,
    }
    if not manifest:
        found = f"{len(clips)} clips, none with a label in {labels}" if clips else "no clip"
        raise InputError(f"{data_root}: found {found}; put clips at {data_root}/<exercise>/<clip>.mp4, with labels")
    return manifest, report


def write_manifest(data_root: str, label_files: Iterable[str | Path] = ()) -> str:
    """Write ``<data_root>/manifest.json`` and say in a few lines what was matched and what was not.

    Raises:
        InputError: If there is a manifest already; it is never overwritten. Also see `build_manifest`.
    """
    path = Path(data_root) / "manifest.json"
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already and is left as it is; move it away to have it made anew")
    manifest, report = build_manifest(data_root, label_files)
    write_json(manifest, path)
    lines = [f"{path}: {report['clips']} clips"]
    lines += [f"  {count:6d}  {exercise}" for exercise, count in report["exercises"].items()]
    if report["labels"] is None:
        lines.append("no label file is there yet: add one before `snakemake annotations`")
    else:
        lines.append(f"{report['labels']}: {report['labels_without_clip']} records speak of no clip here")
    for what, items in (("left out, no label", report["without_label"]), ("left out", report["refused"])):
        if items:
            lines.append(f"{what}: {len(items)}")
            lines += [f"  {item}" for item in items[:10]] + ["  ..."] * (len(items) > 10)
    return "\n".join(lines)
