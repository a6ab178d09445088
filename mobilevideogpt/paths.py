"""The spellings of a clip's path that occur in manifests and label files, brought to one. Standard library only."""

import hashlib
import os
import posixpath
import re
import unicodedata

from mobilevideogpt.errors import InputError

# Braces are Snakemake's wildcards, angle brackets its path variables, a double quote breaks the graph that it draws;
# control characters and lone surrogates cannot be shown.
UNUSABLE = re.compile(r"[{}<>\"\x00-\x1f\x7f\ud800-\udfff]")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")  # containers that the decoder reads
_IRREGULAR = re.compile(r"\\|//|(?:^|/)\.{1,2}(?:/|$)|^/|^[A-Za-z]:")
# How a copy is named after its clip: 0001_3, 0001_mirrored, 0001-trimmed.
_COPY = re.compile(r"(.+)[_-](?:\d{1,2}|(?:mirror|h?flip|trim|crop|augment|re-?encod|resiz|normalis)\w*)$", re.I)


def relative_path(text: str, data_root: str, where: str) -> str:
    """Bring a path to POSIX form, relative to ``data_root``.

    Args:
        text: As written: with ``./``, the data root or ``dataset/`` in front, or none; slashes or backslashes.
        data_root: The data set's folder, relative to the project.
        where: File and record, for the message.

    Raises:
        InputError: If the path leaves the data set's folder or holds a character that no rule can carry.
    """
    path = text
    if _IRREGULAR.search(path):
        path = path.replace("\\", "/")
        if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
            raise InputError(
                f"{where}: {text!r} leaves the data set's folder; write a path relative to {data_root}/ "
                "and copy the clip there"
            )
        path = posixpath.normpath(path)
    for prefix in (data_root.rstrip("/") + "/", "dataset/"):
        if path.startswith(prefix):
            path = path[len(prefix) :]
            break
    if UNUSABLE.search(path):
        raise InputError(
            f'{where}: {text!r} holds one of {{ }} < > " or a control character, which the workflow cannot carry; '
            "rename the clip"
        )
    if path in ("", ".") or path != path.strip():
        raise InputError(f"{where}: {text!r} is no usable path; write one such as {data_root}/squats/0001.mp4")
    return path


def join_key(path: str) -> str:
    """One form for names that look the same (macOS decomposes accents)."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def source_of(path: str, paths: set[str]) -> str:
    """The clip that a copy was made of, by its name, if ``paths`` has it; else the clip itself."""
    stem, suffix = posixpath.splitext(path)
    while (match := _COPY.match(stem)) and match[1] + suffix in paths:
        stem = match[1]
    return stem + suffix


def leaves(path: str, folder: str) -> bool:
    """Whether ``path``, its symbolic links followed, lies outside ``folder``."""
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) != root


def shard_of(path: str, digits: int) -> str:
    """Hexadecimal digits that spread clips evenly and stay the same whatever other clips there are."""
    return hashlib.sha256(path.encode()).hexdigest()[:digits]
