"""Cached clip checks: of many clips that are checked together, only new and changed ones are decoded."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json
from mobilevideogpt.log import Progress
from mobilevideogpt.paths import shard_of

log = logging.getLogger(__name__)
SAVE_SECONDS = 60  # a kill loses at most this much work


def check_with_cache(
    paths: Sequence[str],
    folder: str | Path,
    checker: str,
    check_clips: Callable[[Iterable[str]], Iterator[tuple[str, dict]]],
    segments: Mapping[str, Sequence[str]] | None = None,
) -> list[dict]:
    """Check clips; where bytes and checker are unchanged, return the cached clip check.

    A clip with the cached size, dates and inode is not read. A clip that was touched, copied or restored is read, but
    not decoded. Errors are not cached, since a busy machine may have caused one.

    Args:
        paths: The clips of one shard or more. No other process may check clips of these shards meanwhile.
        folder: Contains the cache, a file for each shard of two digits.
        checker: Digest of the checker's code and limits.
        check_clips: See `clip_check.check_clips`.
        segments: The clips that are segments, by their file. A file with other segments is decoded again.

    Returns:
        The clip checks in the order of ``paths``.
    """
    files = {path: Path(folder, f"{shard_of(path, 2)}.json") for path in paths}
    cached = {path: entry for file in set(files.values()) for path, entry in _read(file, checker).items()}
    stamps = {path: _stamp(path) for path in paths}
    wanted = {path: list((segments or {}).get(path, ())) for path in paths}
    cached = {path: entry for path, entry in cached.items() if entry.get("segments", []) == wanted.get(path)}
    entries = {path: entry for path in paths if (entry := _if_current(path, stamps[path], cached.get(path)))}
    unknown = [path for path in paths if path not in entries]
    log.info("%d of %d clips are new or changed", len(unknown), len(paths))

    def write() -> None:
        by_file: dict[Path, dict[str, dict]] = {file: {} for file in files.values()}
        for path, entry in entries.items():
            if entry["stamp"] and entry["check"]["verdict"] != "error":
                by_file[files[path]][path] = entry
        for file, its_entries in by_file.items():
            write_json({"checker": checker, "clips": its_entries}, file)

    saved = time.monotonic()
    with Progress(total=len(unknown), desc="checking", unit="clip") as bar:
        for path, check in check_clips(unknown):
            entries[path] = {"stamp": stamps[path], "segments": wanted[path], "check": check}
            bar.update()
            if time.monotonic() - saved > SAVE_SECONDS:
                write()
                saved = time.monotonic()
    write()
    return [entries[path]["check"] for path in paths]


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _if_current(path: str, stamp: list[int] | None, entry: dict | None) -> dict | None:
    """Return the cached entry, with the present stamp, if the clip is unchanged."""
    if entry is None or stamp is None:
        return None
    if stamp == entry["stamp"]:
        return entry
    with suppress(OSError):
        if stamp[0] == entry["stamp"][0] and file_digest(path) == entry["check"]["digest"]:
            return entry | {"stamp": stamp}
    return None


def _read(file: Path, checker: str) -> dict[str, dict]:
    try:
        found = read_json(file, shape={"checker": str, "clips": {str: {"stamp": list, "check": {"digest": str}}}})
    except InputError:  # missing or damaged: all are decoded
        return {}
    return found["clips"] if found["checker"] == checker else {}
