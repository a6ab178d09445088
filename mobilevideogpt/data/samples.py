"""Samples completed with the features of their clips. Standard library only."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mobilevideogpt.annotations.samples import cannot_be_used, unusable
from mobilevideogpt.errors import InputError


class ClipFile(NamedTuple):
    """The file that is decoded for a clip, the clip itself or its re-encoded file, and its SHA-256."""

    path: str
    digest: str


def files_in_use(report: Mapping, videos: Iterable[str], where: str) -> dict[str, ClipFile]:
    """Find the file of each clip in the report of the clip check.

    Args:
        report: As ``verify/report.json``.
        videos: The clips of all samples.
        where: What messages call the report.

    Raises:
        InputError: If a clip has an error.
    """
    videos = set(videos)
    errors = {clip: problems for clip, problems in unusable(report).items() if clip in videos}
    if errors:
        raise InputError(cannot_be_used(errors, len(videos), where))
    return {
        clip["video"]: ClipFile(clip["file"], clip["digest"]) for clip in report["clips"] if clip["video"] in videos
    }


def with_features(samples: Iterable[Mapping], files: Mapping[str, ClipFile], keys: Mapping[str, str]) -> list[dict]:
    """Add to each sample ``features``, the key of its clip's features.

    Args:
        samples: As `annotations.samples.read_samples` reads them.
        files: The file of each clip.
        keys: The key of each file's features.
    """
    return [{**sample, "features": keys[files[sample["video"]].path]} for sample in samples]
