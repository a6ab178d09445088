"""Copies of the annotations beside the data, where a person looks for them. Standard library only."""

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobilevideogpt.files import file_digest, read_json, replacing, write_json

log = logging.getLogger(__name__)


def publish(files: Mapping[str, str | Path], data_root: str | Path, memory: str | Path) -> list[str]:
    """Copy the annotations to ``<data_root>/qved_{train,val,test}.json``.

    Any ``qved_*.json`` there that this function did not write is the user's: it is renamed to ``….set-aside-1`` (2, 3,
    ...), never overwritten. In a folder that cannot be written to nothing is done, and a warning says so.

    Args:
        files: Annotation file of each split.
        data_root: The data set's folder.
        memory: JSON file that remembers the digests of what was written.

    Returns:
        The new names of files that were set aside; a warning is logged for each.
    """
    if not os.access(data_root, os.W_OK):
        folder = Path(next(iter(files.values()))).parent
        log.warning("%s cannot be written to; the annotations are in %s only, which is what is used", data_root, folder)
        return []
    ours = _remembered(memory)
    aside = [_set_aside(path) for path in _foreign(data_root, {f"qved_{split}.json" for split in files})]
    for split, file in files.items():
        path = Path(data_root) / f"qved_{split}.json"
        digest = file_digest(file)
        known = ours.get(path.name, [])
        found = file_digest(path) if path.is_file() else None
        if os.path.lexists(path) and found not in [*known, digest]:
            aside.append(_set_aside(path))
        if known[-1:] != [digest]:
            ours[path.name] = [*known[-1:], digest]  # recorded first: a kill in between must not disown the old file
            write_json(ours, memory)
        if found != digest:
            with replacing(path) as copy:
                shutil.copyfile(file, copy)
    return aside


def _set_aside(path: Path) -> str:
    number = 1
    while os.path.lexists(name := f"{path}.set-aside-{number}"):
        number += 1
    os.rename(path, name)
    log.warning("%s was not written by this workflow; it is set aside as %s and not used", path, name)
    return name


def _foreign(data_root: str | Path, ours: Iterable[str]) -> list[Path]:
    return sorted(path for path in Path(data_root).glob("qved_*.json") if path.name not in ours)


def is_published(splits: Iterable[str], data_root: str | Path, memory: str | Path) -> bool:
    """Whether the copies lie there as they were written last, and no other ``qved_*.json``; or cannot be written."""
    if os.path.isdir(data_root) and not os.access(data_root, os.W_OK):
        return True
    ours, copies = _remembered(memory), [Path(data_root) / f"qved_{split}.json" for split in splits]
    return not _foreign(data_root, {path.name for path in copies}) and all(
        path.is_file() and ours.get(path.name, [])[-1:] == [file_digest(path)] for path in copies
    )


def _remembered(memory: str | Path) -> dict[str, list[str]]:
    return read_json(memory, remedy="delete it") if os.path.exists(memory) else {}
