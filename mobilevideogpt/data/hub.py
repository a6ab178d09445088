"""A few clips of each exercise from a data set on the Hugging Face hub."""

import logging
import random
from collections import defaultdict
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json

LABELS = "fine_grained_labels.json"

logger = logging.getLogger(__name__)


def choose_clips(files: list[str], per_exercise: int, seed: int) -> dict[str, str]:
    """Choose clips among a repository's files, the same ones for the same seed.

    Args:
        files: Paths in the repository; a clip is ``<exercise>/<clip>.mp4``.
        per_exercise: Clips of each exercise; all of one that has fewer.
        seed: Of the choice.

    Returns:
        Exercise by clip, in order.
    """
    exercises = defaultdict(list)
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.suffix == ".mp4" and len(path.parts) == 2:
            exercises[path.parts[0]].append(file)
    chosen = {}
    for exercise, clips in sorted(exercises.items()):
        some = random.Random(f"{seed} {exercise}").sample(clips, min(per_exercise, len(clips)))
        chosen |= {clip: exercise for clip in sorted(some)}
    return chosen


def download_clips(repo: str, revision: str, folder: str | Path, *, per_exercise: int, seed: int) -> None:
    """Download chosen clips and the labels to ``folder``; what is there is not fetched again, the manifest comes last.

    Raises:
        InputError: If the hub cannot be reached, or the data set holds no clips or no labels.
    """
    try:
        commit = HfApi().dataset_info(repo, revision=revision).sha
        files = HfApi().list_repo_files(repo, repo_type="dataset", revision=commit)
    except Exception as error:  # the client's own kinds differ between its versions
        raise InputError(
            f"{repo}: cannot list the data set at revision {revision} ({type(error).__name__}: {error}); check "
            "dataset.hub_repo and the connection and type the same command again"
        ) from error
    clips = choose_clips(files, per_exercise, seed)
    if not clips:
        raise InputError(f"{repo}: holds no <exercise>/<clip>.mp4; choose another dataset.hub_repo")
    if LABELS not in files:
        raise InputError(f"{repo}: holds no {LABELS}; choose another dataset.hub_repo")
    try:
        snapshot_download(repo, repo_type="dataset", revision=commit, local_dir=folder, allow_patterns=[*clips, LABELS])
    except Exception as error:
        raise InputError(
            f"{repo}: the download broke off ({type(error).__name__}: {error}); type the same command again, which "
            "goes on where it stopped"
        ) from error
    logger.info("%s at %s: %d clips of %d exercises", repo, commit, len(clips), len(set(clips.values())))
    write_json(clips, Path(folder, "manifest.json"))
