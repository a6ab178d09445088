"""The exchange of clips behind the grounding control."""

from collections import Counter

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.grounding import exercise_of, swap_videos


def samples(**counts):
    return [{"video": f"dataset/{name}/{i:04}.mp4"} for name, n in counts.items() for i in range(n)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [{"a": 1, "b": 1}, {"a": 5, "b": 3, "c": 2}, {"a": 4, "b": 4}, {"a": 7, "b": 2}])
def test_every_prompt_gets_another_exercise_and_clips_are_shown_equally_often(counts, seed):
    own = samples(**counts)
    shown = swap_videos(own, seed)
    assert all(exercise_of(a["video"]) != exercise_of(b) for a, b in zip(own, shown, strict=True))
    times = Counter(shown)
    if max(counts.values()) * 2 <= len(own):
        assert sorted(times) == [sample["video"] for sample in own]  # each once
    else:
        minority = [times[sample["video"]] for sample in own if exercise_of(sample["video"]) == "b"]
        assert max(minority) - min(minority) <= 1


def test_the_exchange_is_the_same_for_a_seed_whatever_the_order_of_the_samples():
    own = samples(a=3, b=3, c=3)
    there = dict(zip((s["video"] for s in own), swap_videos(own, 1), strict=True))
    back = dict(zip((s["video"] for s in own[::-1]), swap_videos(own[::-1], 1), strict=True))
    assert there == back
    assert there != dict(zip((s["video"] for s in own), swap_videos(own, 2), strict=True))


def test_an_exercise_meets_more_than_one_other():
    own = samples(a=6, b=6, c=6)
    met = {(exercise_of(s["video"]), exercise_of(v)) for s, v in zip(own, swap_videos(own, 0), strict=True)}
    assert len(met) == 6


@pytest.mark.parametrize("counts", [{"squats": 3}, {}])
def test_one_exercise_alone_cannot_be_controlled(counts):
    with pytest.raises(InputError, match="at least two exercises"):
        swap_videos(samples(**counts), 0)
