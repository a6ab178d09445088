"""How a label's path and a clip's path are compared, however each was written. Standard library only.

Phones, browsers and scripts change names on the way: case, Unicode form, spaces and underscores, ``%20``, backslashes,
a folder in front. Folded, such names are equal. The path of a label is only compared, never opened.
"""

import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import unquote

from mobilevideogpt.paths import OTHER_VIDEO_SUFFIXES, VIDEO_SUFFIXES, join_key, relative_path

_SUFFIXES = {suffix[1:] for suffix in (*VIDEO_SUFFIXES, *OTHER_VIDEO_SUFFIXES)}
_IRREGULAR = re.compile(r"[\\:]|^/|(?:^|/)\.{1,2}/|//")
_ABOVE = re.compile(r"(?:[A-Za-z]:(?=/)|[A-Za-z][A-Za-z+.-]+:/)?/+|(?:\.\./)+")  # C:/, /, file:///, https://, ../
COMPARED = 500  # names on each side of a name, sorted by beginning and by end, among which the nearest is sought


class Spelling(NamedTuple):
    """A path below the data set's folder, for comparison.

    Attributes:
        path: In one Unicode form.
        folders: Its folders, folded, outermost first.
        name: Its last part, with suffix, in one Unicode form.
        suffix: Of a video, in lower case without the dot; empty if there is none.
    """

    path: str
    folders: tuple[str, ...]
    name: str
    suffix: str


def label_path(text: str, data_root: str, where: str) -> str:
    """Return the path that a label names in POSIX form: below ``data_root`` if it says so, else as far as it tells.

    Args:
        text: As `relative_path` takes it; it may also be absolute, or begin with ``../``.
        data_root: The data set's folder, relative to the project.
        where: File and entry, for the message.

    Raises:
        InputError: If no path is left, or it contains a character that no clip's name contains.
    """
    path = text
    if _IRREGULAR.search(path):
        slashed = text.replace("\\", "/")
        outside = _ABOVE.match(slashed)
        path = posixpath.normpath(slashed[outside.end() :] if outside else slashed)
        if outside:
            roots = (f"/{root.rstrip('/')}/" for root in (data_root, "dataset"))
            path = next((f"/{path}".rpartition(root)[2] for root in roots if root in f"/{path}"), path)
    return relative_path(path, data_root, where)


def fold(text: str) -> str:
    """Return a name without case, in one Unicode form, with single spaces for ``_``, ``%20`` and white space."""
    if "%" in text:
        text = unquote(text)
    return " ".join(join_key(text).casefold().replace("_", " ").split())


def folded_stem(path: str) -> str:
    """Return the last part of a path, folded, without a video's suffix."""
    name = path.rpartition("/")[2]
    stem, _, suffix = name.rpartition(".")
    return fold(stem if stem and suffix.lower() in _SUFFIXES else name)


def spelling(path: str) -> Spelling:
    """Return how a path below the data set's folder is spelled."""
    path = join_key(path)
    folder, _, name = path.rpartition("/")
    suffix = name.rpartition(".")[2].lower()
    return Spelling(path, tuple(map(fold, folder.split("/"))) if folder else (), name, suffix * (suffix in _SUFFIXES))


class Nearest:
    """Finds the name that is most like another one, in a time that does not grow with their number.

    Args:
        paths: Paths; their last parts are compared, folded.
    """

    def __init__(self, paths: Iterable[str]):
        self._path_of = {fold(path.rpartition("/")[2]): path for path in paths}
        self._by_beginning = sorted(self._path_of)
        self._by_end = sorted(name[::-1] for name in self._path_of)

    def to(self, path: str) -> str | None:
        """Return the path whose last part is most like that of another path; None if all are unlike."""
        name = fold(path.rpartition("/")[2])
        near = {*_around(self._by_beginning, name), *(end[::-1] for end in _around(self._by_end, name[::-1]))}
        found = get_close_matches(name, sorted(near), n=1, cutoff=0.75)
        return self._path_of[found[0]] if found else None


def _around(names: list[str], name: str) -> list[str]:
    at = bisect_left(names, name)
    return names[max(0, at - COMPARED) : at + COMPARED]
