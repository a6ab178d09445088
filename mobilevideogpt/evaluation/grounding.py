"""The grounding control: the same prompts, each with a clip of another exercise.

A model that looks at the video answers for the clip it is shown. A model that ignores the video keeps its answer.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from mobilevideogpt.errors import InputError


def exercise_of(video: str) -> str:
    """The exercise of a clip: the name of its folder."""
    return PurePosixPath(video).parent.name


def swap_videos(samples: Sequence[Mapping], seed: int) -> list[str]:
    """Choose for each sample a clip of another exercise from among the samples' clips.

    Each clip is shown once. If one exercise has more than half of the samples, the clips of the others are shown about
    equally often. The choice depends on the samples and the seed, not on the order of the samples.

    Args:
        samples: Only ``video`` is read; the exercise is the name of its folder.
        seed: Selects one of the possible exchanges.

    Returns:
        The path of the clip to show for each sample, in the order of the samples.

    Raises:
        InputError: If all samples are of one exercise.
    """
    draw = random.Random(seed)
    videos = sorted(sample["video"] for sample in samples)
    draw.shuffle(videos)
    sizes = Counter(exercise_of(video) for video in videos)
    if len(sizes) < 2:
        raise InputError(
            f"the test split contains {', '.join(sizes) or 'no clips'}: the grounding control needs at least two "
            "exercises; add clips of another exercise, or raise annotations.split.test"
        )
    ranks = {exercise: rank for rank, (exercise, _) in enumerate(sizes.most_common())}
    videos.sort(key=lambda video: ranks[exercise_of(video)])  # one block for each exercise, the largest first
    largest = max(sizes.values())
    if largest * 2 <= len(videos):
        shown = videos[largest:] + videos[:largest]  # no block is shown to itself
        if len(sizes) > 2:
            _mix(videos, shown, draw)
    else:
        others = videos[largest:]
        shown = [others[i % len(others)] for i in range(largest)] + videos[: len(others)]
    queues: dict[str, list[str]] = {}
    for video, other in zip(videos, shown, strict=True):
        queues.setdefault(video, []).append(other)  # several samples may have the same clip
    return [queues[sample["video"]].pop() for sample in samples]


def _mix(videos: Sequence[str], shown: list[str], draw: random.Random) -> None:
    """Rotate random triples of ``shown`` in place, so that the clips of an exercise meet several others."""
    for _ in range(10 * len(videos)):
        rows = draw.sample(range(len(videos)), 3)
        rotated = [shown[rows[1]], shown[rows[2]], shown[rows[0]]]
        if all(exercise_of(videos[i]) != exercise_of(video) for i, video in zip(rows, rotated, strict=True)):
            for i, video in zip(rows, rotated, strict=True):
                shown[i] = video
