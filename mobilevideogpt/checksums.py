"""SHA256SUMS of a folder, as `sha256sum -c` reads it. Standard library only."""

from collections.abc import Callable
from pathlib import Path

from mobilevideogpt.files import file_digest, write_text

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of the files in a folder and below it, but for hidden ones."""
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    listed = {name: path for name, path in names.items() if name != SUMS and not path.name.startswith(".")}
    write_text("".join(f"{file_digest(path)}  {name}\n" for name, path in listed.items()), folder / SUMS)


def sums_are_right(folder: Path, digest: Callable[[Path], str] = file_digest) -> bool:
    """Whether all files that ``SHA256SUMS`` lists are there and unchanged.

    Args:
        folder: Contains the files.
        digest: Returns the SHA-256 of a file, see `digest_cache.cached_digests`.
    """
    try:
        return bool(_listed(folder)) and not changed_files(folder, digest)
    except (OSError, ValueError):
        return False


def changed_files(folder: Path, digest: Callable[[Path], str] = file_digest) -> list[Path]:
    """Return the files that ``SHA256SUMS`` lists and that are gone or differ.

    Raises:
        OSError: If the list is missing.
        ValueError: If it is malformed.
    """
    files = {folder / name: listed for name, listed in _listed(folder).items()}
    return [path for path, listed in files.items() if not path.is_file() or digest(path) != listed]


def _listed(folder: Path) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines())
    return {name: listed for listed, name in lines}
