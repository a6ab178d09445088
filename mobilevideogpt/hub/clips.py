"""A few clips of each exercise from a data set on the Hugging Face hub."""

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.hf_api import RepoFile
from tqdm.contrib.concurrent import thread_map

from mobilevideogpt.annotations.labels import ANSWER_FILES
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.hub.checkpoints import patiently, refusal
from mobilevideogpt.paths import VIDEO_SUFFIXES, relative_path

WORKERS = "fine_grained_labels_with_worker_ids.json"

logger = logging.getLogger(__name__)


def choose_clips(files: Iterable[str], per_exercise: int, seed: int) -> dict[str, str]:
    """Choose clips among a repository's files, the same ones for the same seed.

    Args:
        files: Paths in the repository; a clip is ``<exercise>/<clip>.mp4``, or of another of `VIDEO_SUFFIXES`.
        per_exercise: Clips of each exercise; all of one that has fewer.
        seed: Of the choice.

    Returns:
        Exercise by clip, in order. A name that the workflow cannot carry is passed over with a warning.
    """
    exercises = defaultdict(list)
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.suffix.lower() not in VIDEO_SUFFIXES or not path.parent.name or file.startswith("."):
            continue
        try:
            if relative_path(file, "dataset", "the repository") == file:
                exercises[path.parent.name].append(file)
        except InputError as error:
            logger.warning("passed over: %s", error)
    chosen = {}
    for exercise, clips in sorted(exercises.items()):
        some = random.Random(f"{seed} {exercise}").sample(clips, min(per_exercise, len(clips)))
        chosen |= {clip: exercise for clip in sorted(some)}
    return chosen


def download_clips(
    repo: str, revision: str, folder: str | Path, *, per_exercise: int, seed: int, source: str = "labels"
) -> None:
    """Download chosen clips and what is said of them to ``folder``; the manifest comes last.

    Each file is compared with the digest that the hub lists. What is there and right is not fetched again, so that an
    interrupted download goes on; what arrives damaged is fetched once more. Rate limits are waited out.

    Args:
        repo: ``owner/name`` of the data set.
        revision: Branch, tag or commit.
        folder: Where the files go.
        per_exercise: See `choose_clips`.
        seed: See `choose_clips`.
        source: Which of `ANSWER_FILES` must come along, or lie in ``folder`` already; others come if they are there.

    Raises:
        InputError: If the hub cannot be reached or refuses, the data set holds no clips or no answers, or a file
            arrives damaged.
    """
    api, folder, where = HfApi(), Path(folder), f"{repo} (revision {revision})"
    try:
        commit = patiently(lambda: api.dataset_info(repo, revision=revision).sha, HfHubHTTPError)
        tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        clips = choose_clips(files, per_exercise, seed)
        if not clips:
            raise InputError(f"{where}: holds no <exercise>/<clip>.mp4; choose another dataset.hub_repo")
        answers = ANSWER_FILES[source]
        if not any(name in files or (folder / name).is_file() for name in answers):
            raise InputError(
                f"{where}: holds no {' or '.join(answers)}; put one into {folder}/, or choose another dataset.hub_repo "
                "or annotations.source"
            )
        others = [name for names in ANSWER_FILES.values() for name in names if name in files]
        wanted = [files[name] for name in (*clips, *others, WORKERS) if name in files]
        thread_map(lambda file: _download(repo, commit, file, folder), wanted, max_workers=8, desc=repo, disable=None)
    except HfHubHTTPError as error:
        raise refusal(where, error) from error
    except (HTTPError, OSError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise refusal(where, error.__cause__) from error
        raise InputError(
            f"{where}: cannot reach the hub ({type(error).__name__}: {error}); check the connection and type the same "
            "command again, which goes on where it stopped"
        ) from error
    logger.info("%s at %s: %d clips of %d exercises", repo, commit, len(clips), len(set(clips.values())))
    write_json(clips, folder / "manifest.json")


def _download(repo: str, commit: str, file: RepoFile, folder: Path) -> None:
    path = folder / file.path
    for _ in range(2):
        if path.is_file() and _is_whole(path, file):
            return
        path.unlink(missing_ok=True)
        patiently(
            lambda: hf_hub_download(repo, file.path, repo_type="dataset", revision=commit, local_dir=folder),
            (HTTPError, OSError),
        )
    if not _is_whole(path, file):
        path.unlink()
        raise InputError(
            f"{repo}: {file.path} arrived damaged twice, its digest is not the one that the hub lists; type the same "
            "command again later"
        )


def _is_whole(path: Path, file: RepoFile) -> bool:
    """Compare with the hub's digest: SHA-256 of a large file, else git's of a blob."""
    if path.stat().st_size != file.size:
        return False
    if file.lfs is not None:
        return file_digest(path) == file.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % file.size + path.read_bytes()).hexdigest() == file.blob_id
