"""Copy the annotations to the data set's folder, where a user looks for them. Standard library only."""

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, replacing, write_json

log = logging.getLogger(__name__)


def publish(files: Mapping[str, str | Path], data_root: str | Path, memory: str | Path) -> list[str]:
    """Copy the annotations to ``<data_root>/qved_{train,val,test}.json``.

    Any other ``qved_*.json`` in that folder, or one of these that this function did not write, is the user's. It is
    renamed to ``….set-aside-1`` (2, 3, ...), never overwritten. A read-only folder gets no copies; a warning is logged.

    Args:
        files: Annotation file of each split.
        data_root: The data set's folder.
        memory: JSON file with the digests of the copies.

    Returns:
        The new names of files that were set aside; each is logged as a warning.
    """
    if not os.access(data_root, os.W_OK):
        folder = Path(next(iter(files.values()))).parent
        log.warning("%s is read-only: it gets no copies of the annotations; %s/ has those in use", data_root, folder)
        return []
    digests = _digests(memory)
    aside = [_set_aside(path) for path in _foreign(data_root, {f"qved_{split}.json" for split in files})]
    for split, file in files.items():
        path = Path(data_root) / f"qved_{split}.json"
        digest = file_digest(file)
        known = digests.get(path.name, [])
        found = file_digest(path) if path.is_file() else None
        if os.path.lexists(path) and found not in [*known, digest]:
            aside.append(_set_aside(path))
        if known[-1:] != [digest]:
            # Written before the copy and beside the digest before: after a kill in between, the old copy is still ours.
            digests[path.name] = [*known[-1:], digest]
            write_json(digests, memory)
        if found != digest:
            with replacing(path) as copy:
                shutil.copyfile(file, copy)
    return aside


def is_published(splits: Iterable[str], data_root: str | Path, memory: str | Path) -> bool:
    """Whether all copies are as `publish` last wrote them and there is no other ``qved_*.json``.

    A read-only folder counts as published, since it gets no copies. Reads files, changes none.
    """
    if os.path.isdir(data_root) and not os.access(data_root, os.W_OK):
        return True
    digests, copies = _digests(memory), [Path(data_root) / f"qved_{split}.json" for split in splits]
    return not _foreign(data_root, {path.name for path in copies}) and all(
        path.is_file() and digests.get(path.name, [])[-1:] == [file_digest(path)] for path in copies
    )


def _digests(memory: str | Path) -> dict[str, list[str]]:
    """Digests of each copy, the latest last; without a memory that can be read, no copy is known to be ours."""
    try:
        return read_json(memory, shape={str: [str]})
    except InputError:
        return {}


def _foreign(data_root: str | Path, names: Iterable[str]) -> list[Path]:
    """Return the ``qved_*.json`` of other names."""
    return sorted(path for path in Path(data_root).glob("qved_*.json") if path.name not in names)


def _set_aside(path: Path) -> str:
    number = 1
    while os.path.lexists(name := f"{path}.set-aside-{number}"):
        number += 1
    os.rename(path, name)
    log.warning("%s was not written by this workflow; it is set aside as %s and not used", path, name)
    return name
