"""SHA-256 of files, cached by their stat, so that each call of Snakemake can compare them. Standard library only."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json

CACHE = ".snakemake/file_digests.json"
SETTLED_NS = 2_000_000_000  # a file that changed later than this ago may change again within one tick of its dates


@contextmanager
def cached_digests(cache: str | Path = CACHE) -> Iterator[Callable[[str | Path], str]]:
    """Yield a function that does what `files.file_digest` does, but reads a file again only if its stat differs.

    Size, dates and inode are compared. A fault of the disk that changes none of them is noticed by whoever loads the
    file.

    Args:
        cache: Where digests are kept from call to call; not written if its folder is missing or read-only.
    """
    cache = Path(cache)
    try:
        known = read_json(cache, shape={str: {"stamp": [int], "sha256": str}})
    except InputError:  # missing or damaged: every file is read
        known = {}
    found = {}

    def digest(path: str | Path) -> str:
        name, before = str(path), _stamp(path)
        entry = known.get(name)
        if entry is None or entry["stamp"] != before:
            entry = {"stamp": before, "sha256": file_digest(path)}
        if _stamp(path) == before and max(before[1:3]) < time.time_ns() - SETTLED_NS:
            found[name] = entry
        return entry["sha256"]

    yield digest
    kept = {name: entry for name, entry in (known | found).items() if os.path.exists(name)}
    if kept != known and os.access(cache.parent, os.W_OK):
        with suppress(InputError):  # a full disk; it is a cache only
            write_json(kept, cache)


def _stamp(path: str | Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
