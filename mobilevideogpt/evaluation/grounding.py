"""The grounding control: the same prompts, each with a clip of another exercise.

A model that looks at the video answers for the clip it is shown. A model that ignores the video answers as before.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from mobilevideogpt.evaluation.scoring import question_of, turns

ONE_EXERCISE = "one exercise in the test split"  # why no control is possible


def swap_videos(samples: Sequence[Mapping], seed: int) -> list[str | None]:
    """Choose for each sample a clip of another exercise from among the samples' clips.

    A clip is chosen among those of which the same question is asked, if there is one of another exercise. For each
    question, each clip is shown once. If one exercise has more than half of the samples, the clips of the others are
    shown about equally often. The choice depends on the samples and the seed, not on the order of the samples.

    Args:
        samples: With ``video``, ``exercise`` and ``conversations``.
        seed: Selects one of the possible exchanges.

    Returns:
        The path of the clip to show for each sample, in the order of the samples; None if all are of one exercise.
    """
    exercise_of = {sample["video"]: sample["exercise"] for sample in samples}
    if len({*exercise_of.values()}) < 2:
        return [None] * len(samples)
    shown: dict[int, str] = {}
    by_question: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        by_question.setdefault(question_of(turns(sample)[0], sample["exercise"]), []).append(i)
    for question in sorted(by_question):
        rows = by_question[question]
        videos = [samples[i]["video"] for i in rows]
        draw = random.Random(seed)
        if len({exercise_of[video] for video in videos}) > 1:
            chosen = _exchange(videos, exercise_of, draw)
        else:
            others = sorted(video for video in exercise_of if exercise_of[video] != exercise_of[videos[0]])
            chosen = dict(zip(sorted(videos), draw.choices(others, k=len(videos)), strict=True))
        shown |= {i: chosen[samples[i]["video"]] for i in rows}
    return [shown[i] for i in range(len(samples))]


def _exchange(videos: Sequence[str], exercise_of: Mapping[str, str], draw: random.Random) -> dict[str, str]:
    """Give each clip one of another exercise."""
    own = sorted(set(videos))
    draw.shuffle(own)
    sizes = Counter(exercise_of[video] for video in own)
    ranks = {exercise: rank for rank, (exercise, _) in enumerate(sizes.most_common())}
    own.sort(key=lambda video: ranks[exercise_of[video]])  # one block for each exercise, the largest first
    largest = max(sizes.values())
    if largest * 2 <= len(own):
        shown = own[largest:] + own[:largest]  # no block is shown to itself
        if len(sizes) > 2:
            _mix(own, shown, exercise_of, draw)
    else:
        others = own[largest:]
        shown = [others[i % len(others)] for i in range(largest)] + own[: len(others)]
    return dict(zip(own, shown, strict=True))


def _mix(own: Sequence[str], shown: list[str], exercise_of: Mapping[str, str], draw: random.Random) -> None:
    """Rotate random triples of ``shown`` in place, so that the clips of an exercise meet several others."""
    for _ in range(10 * len(own)):
        rows = draw.sample(range(len(own)), 3)
        rotated = [shown[rows[1]], shown[rows[2]], shown[rows[0]]]
        if all(exercise_of[own[i]] != exercise_of[video] for i, video in zip(rows, rotated, strict=True)):
            for i, video in zip(rows, rotated, strict=True):
                shown[i] = video
