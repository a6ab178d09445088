"""Dates of results that lie in the future, as after a clock that ran ahead was set back. Standard library only."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

# Folders of files that Snakemake does not compare by date: features by key, checkpoints, adapters, caches, logs.
SKIPPED = re.compile(r"[0-9a-f]{2}|checkpoint-.*|adapter.*|stale|previous|cache|tensorboard|logs")


def bring_to_now(folders: Iterable[str | Path]) -> list[Path]:
    """Set results of a date to come to the present, so that what is made from now on counts as newer than they.

    Snakemake compares dates: it would take such a result for newer than its inputs, whatever is made again of these.
    The order of all dates stays. Files that cannot be changed are left alone.

    Returns:
        The files that were changed.
    """
    now, changed = time.time_ns(), []
    for path in (file for folder in folders for file in _results(Path(folder))):
        with suppress(OSError):
            if path.stat().st_mtime_ns > now:
                os.utime(path, ns=(now, now))
                changed.append(path)
    return changed


def _results(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not SKIPPED.fullmatch(name)]
        yield from (Path(place, name) for name in names)
