"""Read the manifest: the clips, and the exercise of each.

Standard library only, since the Snakefile reads the manifest whenever it is parsed.
"""

import os
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from mobilevideogpt.annotations.clips import Clip, exercise_name
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.spelling import Nearest
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import VIDEO_SUFFIXES, relative_path
from mobilevideogpt.segments import file_of, read_segment, split_segment, with_segment

REMEDY = '`snakemake manifest` makes one from the clips; by hand: {"dataset/squats/0001.mp4": "squats"}'


def read_manifest(
    path: str | Path, data_root: str, exclude: Iterable[str] = (), findings: Findings | None = None
) -> list[Clip]:
    """Read ``{clip path: exercise}``, sorted by path, or a list of objects, each with ``path``.

    A value is the exercise (spaces or underscores), or an object whose ``exercise`` may be missing; the clip's folder
    then names the exercise. An object with ``start`` and ``end``, in seconds, is a segment of the file; the value may
    be a list of such objects. The files themselves are not read. Only a name beyond ASCII is looked up on the disk:
    macOS decomposes accents, so the name on the disk may be in the other Unicode form, and that form is returned.

    Args:
        path: The manifest.
        data_root: The data set's folder, relative to the project.
        exclude: Clips to leave out, spelled like those of the manifest; a file stands for all of its segments.
        findings: Collects clips that were left out or guessed.

    Raises:
        InputError: If the manifest is missing, malformed, empty or contradicts itself, or an entry leaves the folder or
            is not that of a video.
    """
    findings = Findings() if findings is None else findings
    clips: dict[str, str] = {}
    for key, value in _read_entries(path):
        file, segment = key, None
        if not isinstance(value, str) or "#" in key:
            fields = dict(value) if isinstance(value, _Pairs) else {}
            file, segment = read_segment(key, fields.get("start"), fields.get("end"), f"{path}, entry {key!r}")
        name = _as_on_disk(relative_path(file, data_root, str(path)), data_root)
        if not name.lower().endswith(VIDEO_SUFFIXES):
            suffix = posixpath.splitext(name)[1]
            raise InputError(
                f"{path}: {key!r} has {f'the suffix {suffix}' if suffix else 'no suffix'}; that of a clip is one of "
                f"{', '.join(VIDEO_SUFFIXES)}; convert the clip to MP4, or remove the entry"
            )
        if isinstance(value, str) and value.isidentifier():  # a shortcut: 300,000 entries are read in a second
            exercise = value
        else:
            exercise = _exercise(value, name, f"{path}, entry {key!r}", findings)
        name = with_segment(name, segment)
        if name in clips:
            if clips[name] != exercise:
                raise InputError(
                    f"{path}: the clip {name!r} has two exercises, {clips[name]!r} and {exercise!r}; delete one entry"
                )
            findings.add(Code.DUPLICATE_ENTRY, key)
        clips[name] = exercise
    for name in exclude:
        file, segment = split_segment(name)
        excluded = with_segment(_as_on_disk(relative_path(file, data_root, "dataset.exclude"), data_root), segment)
        segments = [] if segment or excluded in clips else [clip for clip in clips if file_of(clip) == excluded]
        for clip in segments:
            del clips[clip]
        if clips.pop(excluded, None) is None and not segments:
            nearest = Nearest(clips).to(excluded)
            hint = f" (the most similar entry is {nearest!r})" if nearest else ""
            raise InputError(f"dataset.exclude: {name!r} is not in {path}{hint}; correct or remove it")
        findings.add(Code.EXCLUDED, excluded)
    if not clips:
        raise InputError(f"{path}: no clip is left; add entries, or shorten dataset.exclude")
    return [Clip(f"{data_root}/{name}", clips[name]) for name in sorted(clips)]


def _read_entries(path: str | Path) -> Iterator[tuple[str, object]]:
    """Yield each clip with its value, in the order of the file."""
    content = read_json(path, REMEDY, object_pairs_hook=_Pairs)
    if isinstance(content, _Pairs):
        for key, value in content:
            if isinstance(value, list) and not isinstance(value, _Pairs):
                if not value or not all(isinstance(one, _Pairs) for one in value):
                    raise InputError(
                        f'{path}, entry {key!r}: is a list; write a name such as "squats", or a file\'s segments, '
                        'such as [{"exercise": "squats", "start": 12.0, "end": 17.5}]'
                    )
                yield from ((key, one) for one in value)
            else:
                yield key, value
        return
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: contains a {type(content).__name__} without a clip; {REMEDY}")
    for number, value in enumerate(content, 1):
        name = dict(value).get("path") if isinstance(value, _Pairs) else None
        if not isinstance(name, str):
            raise InputError(
                f"{path}, entry {number}: has no path; of a list, each entry is an object such as "
                '{"path": "dataset/squats/0001.mp4", "exercise": "squats"}'
            )
        yield name, value


class _Pairs(list):
    """A JSON object as its pairs; a dictionary would drop all but the last of equal keys."""


def _as_on_disk(name: str, data_root: str) -> str:
    if name.isascii() or os.path.exists(f"{data_root}/{name}"):
        return name
    forms = (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((form for form in forms if os.path.exists(f"{data_root}/{form}")), name)


def _exercise(value: object, name: str, where: str, findings: Findings) -> str:
    if isinstance(value, _Pairs):
        value = dict(value).get("exercise")
    if value is None:
        value = name.rpartition("/")[0].rpartition("/")[2]
        findings.add(Code.EXERCISE_FROM_FOLDER, name)
    if isinstance(value, list):  # also an object, which is a list of pairs
        raise InputError(f'{where}: the exercise is a list or an object; write a name such as "squats"')
    return exercise_name(str(value), where)
