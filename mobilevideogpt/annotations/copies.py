"""Copies of clips, by their names and by their bytes. Standard library only.

Marks tell the name of a copy. A word (``_mirrored``, ``flip_``) or a copy mark (``copy 2``, ``Copy of``) is removed
from any name. A number (``_3``, ``(1)``, ``_flip_2``) is removed only if the clip without it exists: squat_1 and
squat_2 are two recordings. So are squat (1) and squat (2), as Explorer names several files that are renamed at once.
"""

import logging
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping

from mobilevideogpt.files import file_digest
from mobilevideogpt.paths import join_key

log = logging.getLogger(__name__)

PROBED_BYTES = 4096

# Changes that augmentation, editing and re-encoding make; letters may follow: flipped, trimmed, brightness.
_WORD = (
    r"(?:(?:horizontal|vertical)(?:ly)?[\s._-]+)?"
    r"(?:[hv]?flip|mirror|rotate|rot(?=\d)|crop|trim|resiz|rescal|bright|dark|contrast|gr[ae]yscal|blur|nois|augment|"
    r"normali[sz]|stabili[sz]|compress|convert|transcod|re-?encod)[^\W\d_]*"
)
# What Finder, Explorer, GNOME and KDE, browsers and Google Drive add, in the languages whose word is alike.
_COPY = r"(?:(?:another|\d+(?:st|nd|rd|th)) )?(?:copy|kopie|copie|c[oó]pia)(?:[\s._-]*\(?\d+\)?)?"
_GAP = r"[\s._\u2013-]+"
_MARKS = [
    re.compile(rf"(?P<name>.+?)(?:{_GAP}|\s*\()(?:{_WORD}|{_COPY})\)?", re.I),
    re.compile(rf"{_WORD}{_GAP}(?P<name>.+)", re.I),
    re.compile(r"(?:copy|kopie|copie|c[oó]pia)(?: \(\d+\))? (?:of|von|van|de|di) (?P<name>.+)", re.I),
]
_HINT = re.compile(r"[\s._\u2013()-]")  # every mark contains one of these; many names do not
_NUMBER = re.compile(rf"(?P<name>.+?)(?:[\s_-]+\d{{1,2}}|\s*\(\d{{1,3}}\)|{_GAP}{_WORD}[\s._-]*\d{{1,3}})", re.I)


def recording_stems(paths: Iterable[str]) -> dict[str, str]:
    """Return the path of each clip's recording, without suffix, as the names tell; it may not exist."""
    stems = {path: _stem(path) for path in paths}
    there = set(stems.values())
    return {path: _chain(stem, there)[-1] for path, stem in stems.items()}


def source_clips(paths: Iterable[str]) -> dict[str, str]:
    """Return the clip of which each clip is a copy, as the names tell; the clip itself if it is not a copy."""
    paths = sorted(paths)
    clip_of: dict[str, str] = {}
    for path in paths:
        clip_of.setdefault(_stem(path), path)
    found = {}
    for path in paths:
        others = _chain(_stem(path), clip_of)[1:]
        found[path] = next((clip_of[stem] for stem in reversed(others) if stem in clip_of), path)
    return found


def _stem(path: str) -> str:
    return join_key(posixpath.splitext(path)[0])


def _chain(stem: str, there: Container[str]) -> list[str]:
    """Return a stem and what is left of it as marks are removed one by one.

    Args:
        stem: Path without suffix.
        there: The stems of all clips.
    """
    chain = [stem]
    while True:
        folder, slash, name = chain[-1].rpartition("/")
        if not _HINT.search(name):
            return chain
        shorter = _without_mark(name)
        if shorter is None and (number := _NUMBER.fullmatch(name)):
            source = f"{folder}{slash}{number['name']}"
            if source in there or _without_marks(source) in there:
                shorter = number["name"]
        if shorter is None:
            return chain
        chain.append(f"{folder}{slash}{shorter}")


def _without_mark(name: str) -> str | None:
    """Return a name without one word or copy mark; None if it has none."""
    return next((match["name"] for mark in _MARKS if (match := mark.fullmatch(name))), None)


def _without_marks(stem: str) -> str:
    folder, slash, name = stem.rpartition("/")
    while shorter := _without_mark(name):
        name = shorter
    return f"{folder}{slash}{name}"


def clips_of_equal_size(paths: Iterable[str]) -> list[list[str]]:
    """Return the existing clips whose files have as many bytes as another's, sorted, in lists of equal size.

    Only these can be equal, so only these are read. A rule that depends on `equal_files` can have them as a parameter.
    """
    by_size = defaultdict(list)
    for path in sorted(paths):
        try:
            by_size[os.stat(path).st_size].append(path)
        except OSError:
            continue  # the clip check reports it
    return sorted(same for size, same in by_size.items() if size and len(same) > 1)


def equal_files(paths: Iterable[str], known: Mapping[str, str] | None = None) -> list[list[str]]:
    """Return the clips whose files are equal byte for byte to another's, sorted, in lists of equal content.

    Of files of equal size, a few bytes are compared first: of 300,000 clips, many are as long as another by chance.

    Args:
        paths: The clips' files.
        known: SHA-256 of files that need not be read again.
    """
    digests, found = known or {}, []
    for same_size in clips_of_equal_size(paths):
        groups = [same_size] if any(path in digests for path in same_size) else _divided(same_size, _middle)
        for group in groups:
            found += _divided(group, lambda path: digests.get(path) or file_digest(path))
    return sorted(found)


def _divided(paths: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """Return the clips whose key is that of another, in lists of equal key."""
    by_key = defaultdict(list)
    for path in paths:
        try:
            by_key[key(path)].append(path)
        except OSError as error:  # the clip check reports it
            log.info("%s: cannot be compared with clips of equal size (%s)", path, error.strerror)
    return [same for same in by_key.values() if len(same) > 1]


def _middle(path: str) -> bytes:
    """The bytes in the middle of a file; the head is alike in many."""
    with open(path, "rb") as file:
        file.seek(os.stat(path).st_size // 2)
        return file.read(PROBED_BYTES)
