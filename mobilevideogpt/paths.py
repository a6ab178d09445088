"""Paths of clips: one spelling for those in manifests and label files; shards. Standard library only."""

import hashlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable

from mobilevideogpt.errors import InputError, shown

# Braces are Snakemake's wildcards and angle brackets its path variables; a double quote breaks the graph that it draws.
# Control characters and lone surrogates cannot be printed, and those that reverse text show another name.
UNUSABLE = re.compile(r"[{}<>\"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")  # containers that the decoder reads
# Containers that it does not read. A label may still name a clip by one, and a manifest says what it passed over.
OTHER_VIDEO_SUFFIXES = (".wmv", ".flv", ".mpg", ".mpeg", ".3gp", ".mts", ".m2ts", ".ts", ".ogv", ".gif")
FETCHED = "fetched.json"  # in a folder that was fetched from the hub: commit and digests of its files
FETCHED_SHAPE = {"repo_id": (str, None), "revision": (str, None), "files": {str: str}}  # see `json_shape.misfit`
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # of the hub
ONE_DIGIT_UP_TO = 4000  # clips whose shards are named by one hexadecimal digit
DIGITS = {16: 1, 256: 2}  # of the names of so many shards
CLIPS_A_FEATURE_SHARD = 4000  # at least; loading the encoders then takes a tenth of a job
_IRREGULAR = re.compile(r"\\|//|(?:^|/)\.{1,2}(?:/|$)|^/|^[A-Za-z]:")


def relative_path(text: str, data_root: str, where: str) -> str:
    """Return a path in POSIX form, relative to ``data_root``.

    Args:
        text: The path as the user spelled it: with ``./``, the data root or ``dataset/`` in front or none of them, with
            slashes or backslashes.
        data_root: The data set's folder, relative to the project.
        where: File and entry, for the message.

    Raises:
        InputError: If the path leaves the data set's folder or contains a character that the workflow cannot use.
    """
    path = text
    if _IRREGULAR.search(path):
        path = path.replace("\\", "/")
        if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/"):
            raise InputError(
                f"{where}: {shown(text)} leaves the data set's folder; write a path relative to {data_root}/ "
                "and copy the clip there"
            )
        path = posixpath.normpath(path)
    for prefix in (data_root.rstrip("/") + "/", "dataset/"):
        if path.startswith(prefix):
            path = path[len(prefix) :]
            break
    if UNUSABLE.search(path):
        raise InputError(
            f'{where}: {shown(text)} contains one of {{ }} < > " or a control character, which the workflow cannot '
            "use; rename the clip"
        )
    if path in ("", ".") or path != path.strip():
        raise InputError(f"{where}: {shown(text)} is not a usable path; write one such as {data_root}/squats/0001.mp4")
    return path


def join_key(path: str) -> str:
    """Return the path in one Unicode form: macOS decomposes accents."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def leaves(path: str, folder: str) -> bool:
    """Whether ``path`` is outside ``folder`` once its symbolic links are followed."""
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) != root


def shard_of(path: str, digits: int) -> str:
    """Return the shard of a clip: hexadecimal digits that do not depend on the other clips."""
    return hashlib.sha256(path.encode()).hexdigest()[:digits]


def shards_of(paths: Iterable[str], digits: int | None = None) -> dict[str, list[str]]:
    """Divide clips into shards.

    Args:
        paths: The clips.
        digits: Of the name of a shard, see `DIGITS`. By default 16 shards, or 256 where there are more clips than
            `ONE_DIGIT_UP_TO`: a clip check takes a second to start.

    Returns:
        Clips by the name of their shard; a shard without a clip is left out.
    """
    paths = list(paths)
    digits = digits or (1 if len(paths) <= ONE_DIGIT_UP_TO else 2)
    shards: dict[str, list[str]] = {}
    for path in paths:
        shards.setdefault(shard_of(path, digits), []).append(path)
    return shards


def feature_shards_of(paths: Iterable[str], number: int | str) -> dict[str, list[str]]:
    """Divide clips into shards whose features are computed by jobs of their own.

    Args:
        paths: The clips.
        number: 1, 16, 256, or ``auto``: the most of these that have `CLIPS_A_FEATURE_SHARD` clips each.

    Returns:
        Clips by the name of their shard; empty if one job computes all.
    """
    paths = list(paths)
    if number == "auto":
        number = next((n for n in (256, 16) if len(paths) >= n * CLIPS_A_FEATURE_SHARD), 1)
    return {} if number == 1 else shards_of(paths, DIGITS[int(number)])
