"""SHA256SUMS of a folder, as `sha256sum -c` reads it. Standard library only."""

from collections.abc import Callable
from pathlib import Path

from mobilevideogpt.files import file_digest, write_text

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of the files in a folder."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name != SUMS)
    write_text("".join(f"{file_digest(path)}  {path.name}\n" for path in files), folder / SUMS)


def sums_are_right(folder: Path, digest: Callable[[Path], str] = file_digest) -> bool:
    """Whether all files that ``SHA256SUMS`` lists are there and unchanged.

    Args:
        folder: Contains the files.
        digest: Returns the SHA-256 of a file, see `digest_cache.cached_digests`.
    """
    try:
        lines = [line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
        return bool(lines) and all(digest(folder / name) == listed for listed, name in lines)
    except (OSError, ValueError):
        return False
