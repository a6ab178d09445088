"""Which clips are asked about, and with which prompt."""

import csv
import logging
import os
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

from mobilevideogpt.annotations.clips import Clip, exercise_name, videos_in
from mobilevideogpt.annotations.conversations import build_prompt
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import REPOSITORY, VIDEO_SUFFIXES
from mobilevideogpt.segments import file_of, split_segment, with_segment

log = logging.getLogger(__name__)
LISTED = 10  # exercises in a message
LISTS = (".txt", ".csv", ".json")
LIST_FORMAT = "write one path a line, a CSV with a column video, or a JSON list of paths"


def clips_named(names: Iterable[str | Path]) -> list[str]:
    """Return the clips that arguments name, each once: clips, folders of clips, and lists (`LISTS`) of paths.

    Paths in a list are relative to the working directory, or else to the list.

    Raises:
        InputError: If a file is missing, a folder contains no clip or a list no path.
    """
    clips: list[str] = []
    for name in map(str, names):
        if Path(name).is_dir():
            found = [os.path.join(name, video) for video in sorted(videos_in(name))]
            if not found:
                raise InputError(f"{name}: contains no clip ({', '.join(VIDEO_SUFFIXES)}); give another folder")
        elif Path(name).suffix.lower() in LISTS:
            found = [_beside(path, name) for path in _paths_in(name)]
        else:
            found = [name]
        clips += found
    if missing := [clip for clip in clips if not Path(file_of(clip)).is_file()]:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}: there is no such clip{more}; check the path")
    return list(dict.fromkeys(clips))


def clips_to_answer(video: object) -> list[str]:
    """Return no file for the setting ``video``: Snakemake takes braces in a name for wildcards.

    Raises:
        InputError: If it names no clip.
    """
    if not video:
        raise InputError("no clip is given; name one: snakemake infer --config video=clip.mp4")
    try:
        clips_named(video if isinstance(video, list) else [str(video)])
    except InputError as error:
        raise InputError(f"{error} (given with `--config video=...`)") from None
    return []


def repository_to_push(repo_id: str | None) -> list[str]:
    """Return no file for the setting ``repo_id``.

    Raises:
        InputError: If it names no repository.
    """
    if not repo_id or not REPOSITORY.fullmatch(repo_id):
        found = "no repository is given" if not repo_id else f"repo_id: {shown(repo_id)} is not owner/name"
        raise InputError(f"{found}; name one: snakemake push --config repo_id=owner/name")
    return []


def _paths_in(path: str) -> list[str]:
    if path.lower().endswith(".json"):
        content = read_json(path, LIST_FORMAT, shape=(dict, [(str, {"path": str}, {"video": str})]))
        entries = list(content) if isinstance(content, dict) else content
        found = [entry if isinstance(entry, str) else entry.get("path", entry.get("video")) for entry in entries]
    else:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); {LIST_FORMAT}") from None
        lines = text.splitlines()
        if path.lower().endswith(".csv"):
            rows = list(csv.DictReader(lines))
            if rows and "video" not in rows[0]:
                raise InputError(f"{path}: its first line names no column video; {LIST_FORMAT}")
            lines = [row["video"] or "" for row in rows]
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise InputError(f"{path}: contains no path; {LIST_FORMAT}")
    return found


def _beside(path: str, of_list: str) -> str:
    beside = Path(of_list).parent / path
    return str(beside) if not Path(file_of(path)).exists() and Path(file_of(beside)).exists() else path


class Prompts:
    """Fills a template for clips.

    Args:
        template: See `build_prompt`.
        data_root: Folder of the data set, whose manifest says which exercise a clip shows.
        known: Exercises by which a clip's folder may be named. Without any, each folder's name is an exercise.
    """

    def __init__(self, template: str, data_root: str | Path | None = None, known: Collection[str] = ()):
        self.template = template
        self.data_root = None if data_root is None else str(data_root)
        self._known = known

    @cached_property
    def _clips(self) -> list[Clip]:
        if self.data_root is None or not (manifest := Path(self.data_root, "manifest.json")).is_file():
            return []
        return read_manifest(manifest, self.data_root)

    def of(self, video: str | Path, exercise: str | None = None) -> str:
        """Return the prompt for a clip.

        Args:
            video: The clip, of the data set or another one.
            exercise: Its exercise; by default that of the manifest, or else the name of the clip's folder if the model
                or the data set knows an exercise of that name.

        Raises:
            InputError: If the template needs the exercise and none is known.
        """
        if not exercise and "{exercise}" in self.template:
            exercise = self._exercise_of(video)
        return build_prompt(self.template, exercise or "", setting="prompt")

    def _exercise_of(self, video: str | Path) -> str:
        file, segment = split_segment(video)
        if self.data_root is not None:
            below = os.path.relpath(os.path.realpath(file), os.path.realpath(self.data_root))
            path = with_segment(f"{self.data_root}/{below}", segment)
            for clip in self._clips:
                if clip.path == path:
                    return clip.exercise
        known = {*self._known, *(clip.exercise for clip in self._clips)}
        folder = exercise_name(Path(file).absolute().parent.name or ".", str(video))
        if known and folder not in known:
            raise InputError(
                f"{video}: the prompt names the exercise, and neither a manifest nor the clip's folder says which it "
                "is; name it with `--exercise ...` (`--config exercise=...` of Snakemake), as in "
                f"{', '.join(sorted(known)[:LISTED])}"
            )
        log.warning("%s: the exercise in the prompt, %r, is the name of the clip's folder", video, folder)
        return folder
