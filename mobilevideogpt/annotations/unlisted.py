"""Clips on the disk that no manifest names, which nothing uses. Standard library only."""

import os
from collections.abc import Iterable

from mobilevideogpt.annotations.clips import Clip, exercise_name, videos_in
from mobilevideogpt.annotations.findings import Code, first_of
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import join_key, leaves, relative_path
from mobilevideogpt.segments import file_of
from mobilevideogpt.wording import agree, counted

SHOWN = 3


def unlisted_clips(clips: Iterable[Clip], data_root: str) -> list[str]:
    """Return the clips below a folder that are not among ``clips``, sorted; not files that a manifest cannot name."""
    named = {join_key(file_of(clip.path)) for clip in clips}
    found = (file for file in videos_in(data_root) if join_key(f"{data_root}/{file}") not in named)
    return sorted(f"{data_root}/{file}" for file in found if fault_of(data_root, file) is None)


def unlisted_sentence(unlisted: list[str], data_root: str) -> str:
    """Say which clips nothing uses, and what to do; empty if there are none."""
    if not unlisted:
        return ""
    number = counted(len(unlisted), f"clip{{s}} in {data_root}/ {{is|are}} in no manifest")
    return f"{number}: {first_of(unlisted, SHOWN)}; `snakemake manifest` adds {agree(len(unlisted), '{it|them}')}"


def fault_of(data_root: str, file: str) -> Code | None:
    """Return why a file cannot be a clip of a manifest, or None."""
    if leaves(f"{data_root}/{file}", data_root):
        return Code.LINK_OUTSIDE
    if not os.path.isfile(f"{data_root}/{file}"):
        return Code.NOT_A_FILE
    try:
        relative_path(file, data_root, data_root)
        if folder := os.path.dirname(file):
            exercise_name(os.path.basename(folder), data_root)
    except InputError:
        return Code.UNUSABLE_NAME
    return None
