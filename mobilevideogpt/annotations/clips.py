"""Clips: video files of the data set, each with its exercise. Standard library only."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest
from mobilevideogpt.paths import UNUSABLE, VIDEO_SUFFIXES

SPLITS: tuple[str, ...] = ("train", "val", "test")
WRITTEN_BY_THE_WORKFLOW = {"sample", "hub"}  # folders below dataset/


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and its exercise.

    Attributes:
        path: POSIX path relative to the project, ``dataset/squats/0001.mp4``.
        exercise: Name with underscores, ``tricep_stretch``.
    """

    path: str
    exercise: str


def exercise_name(text: str, where: str) -> str:
    """Return the name of an exercise with underscores for white space.

    Args:
        text: The name as the user wrote it.
        where: File and entry, for the message.

    Raises:
        InputError: If the name is empty or contains a character that the workflow cannot use.
    """
    name = re.sub(r"\s+", "_", text.strip())
    if not name:
        raise InputError(f"{where}: the exercise is missing; write it as the value, or put the clip into its folder")
    if UNUSABLE.search(name):
        raise InputError(
            f'{where}: the exercise {name!r} contains one of {{ }} < > " or a control character; write a plain name'
        )
    return name


def digest_of_clips(clips: Iterable[Clip]) -> str:
    """SHA-256 of the clips and their exercises, whatever the order and the layout of the manifest."""
    return json_digest(sorted([clip.path, clip.exercise] for clip in clips))


def videos_in(data_root: str) -> Iterator[str]:
    """Yield the paths of all video files below a folder, relative to it.

    Hidden files and the folders that the workflow itself writes are skipped. A symbolic link to a folder is yielded,
    not followed. A folder with the suffix of a video is yielded, too: both are mistakes that the caller reports.
    """
    for top, folders, files in os.walk(data_root):
        within = os.path.relpath(top, data_root)
        skipped = WRITTEN_BY_THE_WORKFLOW if within == "." else set()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in skipped]
        clips = [name for name in files + folders if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        yield from (os.path.normpath(os.path.join(within, name)) for name in {*clips, *links})
