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

    A file there that this function did not write is the user's: it is renamed to ``….set-aside-1`` (2, 3, ...), never
    overwritten.

    Args:
        files: Annotation file of each split.
        data_root: The data set's folder.
        memory: JSON file that remembers the digests of what was written.

    Returns:
        The new names of files that were set aside; a warning is logged for each.
    """
    ours = _remembered(memory)
    aside = []
    for split, file in files.items():
        path = Path(data_root) / f"qved_{split}.json"
        digest = file_digest(file)
        known = ours.get(path.name, [])
        found = file_digest(path) if path.is_file() else None
        if os.path.lexists(path) and found not in [*known, digest]:
            number = 1
            while os.path.lexists(name := f"{path}.set-aside-{number}"):
                number += 1
            os.rename(path, name)
            log.warning("%s was not written by this workflow; it is set aside as %s and not used", path, name)
            aside.append(name)
        if known[-1:] != [digest]:
            ours[path.name] = [*known[-1:], digest]  # recorded first: a kill in between must not disown the old file
            write_json(ours, memory)
        if found != digest:
            with replacing(path) as copy:
                shutil.copyfile(file, copy)
    for other in sorted(Path(data_root).glob("qved_*.json")):
        if other.name not in ours:
            log.warning("%s was not written by this workflow and is not used", other)
    return aside


def is_published(splits: Iterable[str], data_root: str | Path, memory: str | Path) -> bool:
    """Whether the copies lie there as they were written last."""
    ours = _remembered(memory)
    return all(
        (path := Path(data_root) / f"qved_{split}.json").is_file()
        and ours.get(path.name, [])[-1:] == [file_digest(path)]
        for split in splits
    )


def _remembered(memory: str | Path) -> dict[str, list[str]]:
    return read_json(memory, remedy="delete it") if os.path.exists(memory) else {}
