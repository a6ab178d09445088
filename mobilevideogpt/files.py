"""Write files whole or not at all, read JSON, compute digests. Standard library only."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mobilevideogpt.errors import InputError
from mobilevideogpt.json_shape import misfit

_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENAMETOOLONG: "shorten the name",
}
_UMASK = os.umask(0)  # it can only be read by setting it, which is no work for a thread
os.umask(_UMASK)
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes an encoder for each value


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the name of a temporary file beside ``path``; it replaces ``path`` if the block succeeds.

    Raises:
        InputError: If the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.stem[:32]}-"  # the name may be as long as the file system allows
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in _REMEDIES:
            raise _cannot_be_written(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_be_written(path: Path, error: OSError) -> InputError:
    remedy = _REMEDIES.get(error.errno, f"make {path.parent}/ writable")
    return InputError(f"{path}: cannot be written ({error.strerror}); {remedy}, and run the same command again")


@contextmanager
def replacing_folder(path: str | Path, previous: str | Path | None = None) -> Iterator[Path]:
    """Yield a new folder beside ``path``; it replaces ``path`` if the block succeeds.

    Args:
        path: The folder to replace.
        previous: New place of the old folder; None deletes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        for entry in (temporary, *temporary.rglob("*")):
            _publish(entry)
        if path.exists():
            old = Path(previous) if previous else path.with_name(f".{path.name}-old")
            if old.exists():
                shutil.rmtree(old)
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
        if not previous:
            shutil.rmtree(path.with_name(f".{path.name}-old"), ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(path: Path) -> None:
    """Give a temporary file or folder, which is private, the usual mode; flush it to the disk."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_UMASK)
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    else:
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, so that a loss of power does not undo a rename."""
    with suppress(OSError):  # a file system, or a system, that cannot
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(text: str, path: str | Path) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: object, path: str | Path) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(_json(value, indent=1) + "\n", path)


def write_table(table: Mapping[str, object], path: str | Path) -> None:
    """Write a JSON object, one entry a line, or of an entry that is a list one item; whole or not at all.

    So, too, of an entry that is an object of objects. Many times as fast as indented JSON, which Python's own encoder
    writes.
    """

    def lines(value: object) -> str:
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(_json, value)) + "\n]"
        if isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
            return entries(value, _json)
        return _json(value)

    def entries(table: Mapping[str, object], write: Callable[[object], str]) -> str:
        return "{\n" + ",\n".join(f"{_json(name)}: {write(value)}" for name, value in table.items()) + "\n}"

    write_text(f"{entries(table, lines)}\n" if table else "{}\n", path)


def write_records(records: Iterable[object], path: str | Path) -> None:
    """Write a JSON list, one item a line, whole or not at all."""
    lines = ",\n".join(map(_json, records))
    write_text(f"[\n{lines}\n]\n" if lines else "[]\n", path)


def _json(value: object, indent: int | None = None) -> str:
    """JSON in readable characters; a lone surrogate, which UTF-8 cannot encode, stays an escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False) if indent else _ENCODE(value)
    return text if text.isascii() else re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def read_json(
    path: str | Path,
    remedy: str = "correct it by hand or write it again",
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    shape: Any = object,
) -> Any:
    """Read a JSON file, with or without a byte-order mark.

    Args:
        path: The file.
        remedy: How to fix a missing or malformed file; ends the message.
        object_pairs_hook: As that of `json.loads`.
        shape: What the content has to be, see `json_shape.misfit`.

    Raises:
        InputError: If the file is missing, cannot be read, is not JSON or of another shape.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=object_pairs_hook)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from None
    if text := misfit(value, shape):
        raise InputError(f"{path}: {text}; {remedy}")
    return value


def remade_by(rule: str) -> str:
    """Return the remedy for a file of the workflow: the rule makes it again."""
    return f"delete it and run the same command again; rule {rule} makes it again"


def read_json_lines(path: str | Path, remedy: str, shape: Any = object) -> list:
    """Read one JSON value a line. Only a line feed ends a line: texts contain other line ends of Unicode.

    Raises:
        InputError: If the file is missing, or a line is not JSON or of another shape (see `json_shape.misfit`).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        values = [json.loads(line) for line in lines if line]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON lines ({error}); {remedy}") from None
    for i, value in enumerate(values, 1):
        if text := misfit(value, shape):
            raise InputError(f"{path}, line {i}: {text}; {remedy}")
    return values


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def check_writable(folders: Iterable[str | Path]) -> None:
    """Check that files in folders can be written and deleted, before a rule does.

    Raises:
        InputError: If a folder, or for a missing one the nearest above it, is read-only.
    """
    for folder in map(Path, folders):
        there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"{there}/: is read-only, and results are written there; make it writable")
