"""Clips: video files of the data set, each with its exercise. Standard library only."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import json_digest
from mobilevideogpt.paths import OTHER_VIDEO_SUFFIXES, UNUSABLE, VIDEO_SUFFIXES
from mobilevideogpt.wording import counted

SPLITS: tuple[str, ...] = ("train", "val", "test")
WRITTEN_BY_THE_WORKFLOW = {"sample", "hub"}  # folders below dataset/


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and its exercise.

    Attributes:
        path: POSIX path relative to the project, ``dataset/squats/0001.mp4``; that of a part of a recording ends with
            its seconds, ``dataset/session.mp4#t=12,17.5``, see `mobilevideogpt.segments`.
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
            f'{where}: the exercise {shown(name)} contains one of {{ }} < > " or a control character; write a plain '
            "name"
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


def where_videos_were_sought(data_root: str) -> str:
    """Say in a clause where `videos_in` looked and what it passed over, with counts and an example of each kind."""
    passed: dict[str, list[str]] = defaultdict(list)
    n_folders = 0
    for top, folders, files in os.walk(data_root):
        within = os.path.relpath(top, data_root).split(os.sep)
        own, hidden = within[0] in WRITTEN_BY_THE_WORKFLOW, any(part.startswith(".") for part in within if part != ".")
        n_folders += not (own or hidden or within == ["."])
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            is_video = suffix in VIDEO_SUFFIXES
            if own or hidden or name.startswith("."):
                kind = "in the workflow's own folders" if own else "hidden"
                passed[kind] += [os.path.join(top, name)] * (is_video or (hidden and suffix in OTHER_VIDEO_SUFFIXES))
            elif not is_video:
                passed[f"with the suffix {suffix}" if suffix else "without a suffix"].append(os.path.join(top, name))
        folders.sort()
    kinds = sorted(passed, key=lambda kind: (kind.rpartition(" ")[2] not in OTHER_VIDEO_SUFFIXES, kind))
    shown = (
        f"{counted(len(passed[kind]), 'file{s}')} {kind} (such as {passed[kind][0]})" for kind in kinds if passed[kind]
    )
    over = ", ".join(shown).encode(errors="backslashreplace").decode()  # a name on the disk may not be UTF-8
    return (
        f"looked in {data_root}/ and {counted(n_folders, 'folder{s}')} below it for {', '.join(VIDEO_SUFFIXES)}; "
        f"passed over {over or 'nothing'}"
    )
