"""The grounding control: the same prompts, each with a clip of another exercise.

A model that looks at the video answers for the clip it is shown; one that does not keeps its answer.
"""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from mobilevideogpt.errors import InputError


def exercise_of(video: str) -> str:
    """The exercise of a clip: the folder it lies in."""
    return PurePosixPath(video).parent.name


def swap_videos(records: Sequence[dict], seed: int) -> list[str]:
    """Choose for each record a clip of another exercise, from among the records' own.

    Each clip is shown once, unless more than half of the records are of one exercise: then the clips of the others
    are shown about equally often. The choice depends on the records and the seed, not on the order of the records.

    Args:
        records: Annotations; the exercise is the folder that ``record["video"]`` lies in.
        seed: Picks one of the many possible exchanges.

    Returns:
        The path to show for each record, in the order of the records.

    Raises:
        InputError: If all records are of one exercise.
    """
    draw = random.Random(seed)
    order = sorted(range(len(records)), key=lambda i: records[i]["video"])
    videos = [records[i]["video"] for i in order]
    draw.shuffle(videos)
    sizes = Counter(exercise_of(video) for video in videos)
    if len(sizes) < 2:
        raise InputError(
            f"the test split holds {', '.join(sizes) or 'no clips'}: showing the model another exercise's clip takes "
            "at least two exercises; add clips of another one, or raise annotations.split.test"
        )
    ranks = {exercise: rank for rank, (exercise, _) in enumerate(sizes.most_common())}
    videos.sort(key=lambda video: ranks[exercise_of(video)])  # blocks of one exercise each, the largest first
    largest = max(sizes.values())
    if largest * 2 <= len(videos):
        shown = videos[largest:] + videos[:largest]  # no block reaches itself
        for _ in range(10 * len(videos) if len(sizes) > 2 else 0):  # mix, so that an exercise meets several others
            rows = draw.sample(range(len(videos)), 3)
            passed_on = [shown[rows[1]], shown[rows[2]], shown[rows[0]]]
            if all(exercise_of(videos[i]) != exercise_of(video) for i, video in zip(rows, passed_on, strict=True)):
                for i, video in zip(rows, passed_on, strict=True):
                    shown[i] = video
    else:
        others = videos[largest:]
        shown = [others[i % len(others)] for i in range(largest)] + videos[: len(others)]
    queues: dict[str, list[str]] = {}
    for video, other in zip(videos, shown, strict=True):
        queues.setdefault(video, []).append(other)  # a clip may stand in several records
    return [queues[record["video"]].pop() for record in records]
