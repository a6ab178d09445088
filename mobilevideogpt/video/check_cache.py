"""Verdicts that are remembered: of many clips that are checked together, only those that changed are decoded again."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json
from mobilevideogpt.log import Progress
from mobilevideogpt.paths import shard_of

log = logging.getLogger(__name__)
SAVE_SECONDS = 60  # what a kill loses at most


def remembered(
    paths: Sequence[str],
    folder: str | Path,
    checker: str,
    probe_many: Callable[[Iterable[str]], Iterator[tuple[str, dict]]],
) -> list[dict]:
    """Records of clips, from memory where bytes and checker are the same.

    A clip whose size, dates and inode are those remembered is not even read; one that was touched, copied or restored
    is read, but not decoded. Errors are not remembered, since a busy machine may have caused one.

    Args:
        paths: The clips of one shard or more; nobody else may check clips of these shards meanwhile.
        folder: Holds the memory, a file for each shard of two digits.
        checker: Digest of the checker's code and limits.
        probe_many: See `integrity.probe_many`.

    Returns:
        The records in the order of ``paths``.
    """
    files = {path: Path(folder, f"{shard_of(path, 2)}.json") for path in paths}
    known = {path: entry for file in set(files.values()) for path, entry in _read(file, checker).items()}
    stamps = {path: _stamp(path) for path in paths}
    entries = {path: entry for path in paths if (entry := _still_true(path, stamps[path], known.get(path)))}
    unknown = [path for path in paths if path not in entries]
    log.info("%d of %d clips are new or changed", len(unknown), len(paths))

    def write() -> None:
        kept = {file: {} for file in files.values()}
        for path, entry in entries.items():
            if entry["stamp"] and entry["record"]["verdict"] != "error":
                kept[files[path]][path] = entry
        for file, its_entries in kept.items():
            write_json({"checker": checker, "clips": its_entries}, file)

    saved = time.monotonic()
    with Progress(total=len(unknown), desc="checking", unit="clip") as bar:
        for path, record in probe_many(unknown):
            entries[path] = {"stamp": stamps[path], "record": record}
            bar.update()
            if time.monotonic() - saved > SAVE_SECONDS:
                write()
                saved = time.monotonic()
    write()
    return [entries[path]["record"] for path in paths]


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _still_true(path: str, stamp: list[int] | None, entry: dict | None) -> dict | None:
    if entry is None or stamp is None:
        return None
    if stamp != entry["stamp"]:
        with suppress(OSError):
            if stamp[0] == entry["stamp"][0] and file_digest(path) == entry["record"]["digest"]:
                return entry | {"stamp": stamp}
        return None
    return entry


def _read(file: Path, checker: str) -> dict[str, dict]:
    try:
        found = read_json(file)
    except InputError:  # none yet, or spoiled: all are decoded
        return {}
    return found["clips"] if found["checker"] == checker else {}
