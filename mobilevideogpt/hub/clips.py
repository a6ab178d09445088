"""Download a few clips of each exercise from a data set on the Hugging Face hub."""

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]
from huggingface_hub.hf_api import RepoFile
from tqdm.contrib.concurrent import thread_map

from mobilevideogpt.annotations.labels import ANSWER_FILES
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.hub.retry import explained, retry
from mobilevideogpt.paths import VIDEO_SUFFIXES, relative_path

WORKER_IDS = "fine_grained_labels_with_worker_ids.json"

logger = logging.getLogger(__name__)


def choose_clips(files: Iterable[str], per_exercise: int, seed: int) -> dict[str, str]:
    """Choose clips among a repository's files, the same ones for the same seed.

    Args:
        files: Paths in the repository; a clip is ``<exercise>/<clip>.mp4``, or has another of `VIDEO_SUFFIXES`.
        per_exercise: Number of clips of each exercise; an exercise with fewer clips contributes all of them.
        seed: Seed of the choice.

    Returns:
        Exercise by clip, in order. A name that the workflow cannot use is skipped with a warning.
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
            logger.warning("skipped: %s", error)
    chosen = {}
    for exercise, clips in sorted(exercises.items()):
        some = random.Random(f"{seed} {exercise}").sample(clips, min(per_exercise, len(clips)))
        chosen |= {clip: exercise for clip in sorted(some)}
    return chosen


def download_clips(
    repo: str, revision: str, folder: str | Path, *, per_exercise: int, seed: int, source: str = "labels"
) -> None:
    """Download chosen clips and their labels to ``folder``; the manifest is written last.

    Each file is compared with the digest that the hub lists. A file that is there and intact is not downloaded again,
    so an interrupted download resumes. A file that arrives damaged is downloaded once more. The download waits where
    the hub limits its rate.

    Args:
        repo: ``owner/name`` of the data set.
        revision: Branch, tag or commit.
        folder: Destination of the files.
        per_exercise: See `choose_clips`.
        seed: See `choose_clips`.
        source: The entry of `ANSWER_FILES` of which one file is required, in the data set or in ``folder``; files of
            other entries are downloaded if the data set has them.

    Raises:
        InputError: If the hub cannot be reached or refuses, the data set contains no clips or no answers, or a file
            arrives damaged.
    """
    api, folder, where = HfApi(), Path(folder), f"{repo} (revision {revision})"
    remedy = "check the connection and run the same command again, which keeps the files that are complete"
    with explained(where, "cannot reach the hub", remedy):
        commit = retry(lambda: api.dataset_info(repo, revision=revision).sha, HfHubHTTPError)
        tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        clips = choose_clips(files, per_exercise, seed)
        if not clips:
            raise InputError(f"{where}: contains no <exercise>/<clip>.mp4; choose another dataset.hub_repo")
        wanted = [files[name] for name in (*clips, *_label_files(files, folder, source, where))]
        thread_map(lambda file: _download(repo, commit, file, folder), wanted, max_workers=8, desc=repo, disable=None)
    logger.info("%s at %s: %d clips of %d exercises", repo, commit, len(clips), len(set(clips.values())))
    write_json(clips, folder / "manifest.json")


def _label_files(files: Collection[str], folder: Path, source: str, where: str) -> list[str]:
    """List the files of labels and answers that the data set has.

    Raises:
        InputError: If neither ``files`` nor ``folder`` contains one of the files that ``source`` needs.
    """
    required = ANSWER_FILES[source]
    if required and not any(name in files or (folder / name).is_file() for name in required):
        raise InputError(
            f"{where}: contains no {' or '.join(required)}; put one into {folder}/, or choose another dataset.hub_repo "
            "or annotations.source"
        )
    known = [name for names in ANSWER_FILES.values() for name in names]
    return [name for name in (*known, WORKER_IDS) if name in files]


def _download(repo: str, commit: str | None, file: RepoFile, folder: Path) -> None:
    path = folder / file.path
    for _ in range(2):
        if path.is_file() and _is_intact(path, file):
            return
        path.unlink(missing_ok=True)
        retry(
            lambda: hf_hub_download(repo, file.path, repo_type="dataset", revision=commit, local_dir=folder),
            (HTTPError, OSError),
        )
    if not _is_intact(path, file):
        path.unlink()
        raise InputError(
            f"{repo}: {file.path} arrived damaged twice: its digest differs from the one that the hub lists; run the "
            "same command again later"
        )


def _is_intact(path: Path, file: RepoFile) -> bool:
    """Compare with the digest that the hub lists: SHA-256 of a large file, git's digest of a blob otherwise."""
    if path.stat().st_size != file.size:
        return False
    if file.lfs is not None:
        return file_digest(path) == file.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % file.size + path.read_bytes()).hexdigest() == file.blob_id
