"""The exchange of clips behind the grounding control."""

from collections import Counter

import pytest

from mobilevideogpt.evaluation.grounding import swap_videos

PROMPT = "<video>\nWhat do you see?"


def sample(video, exercise, prompt=PROMPT):
    return {"video": video, "exercise": exercise, "conversations": [
        {"from": "human", "value": prompt}, {"from": "gpt", "value": "good"}
    ]}  # fmt: skip


def samples(**counts):
    """All clips in one folder: the exercise is what the manifest says."""
    return [sample(f"short_clips/{name}{i:04}.mp4", name) for name, n in counts.items() for i in range(n)]


def exercises_of(own):
    return {row["video"]: row["exercise"] for row in own}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [{"a": 1, "b": 1}, {"a": 5, "b": 3, "c": 2}, {"a": 4, "b": 4}, {"a": 7, "b": 2}])
def test_every_prompt_gets_another_exercise_and_clips_are_shown_equally_often(counts, seed):
    own = samples(**counts)
    shown, exercise_of = swap_videos(own, seed), exercises_of(own)
    assert all(a["exercise"] != exercise_of[b] for a, b in zip(own, shown, strict=True))
    times = Counter(shown)
    if max(counts.values()) * 2 <= len(own):
        assert sorted(times) == [row["video"] for row in own]  # each once
    else:
        minority = [times[row["video"]] for row in own if row["exercise"] == "b"]
        assert max(minority) - min(minority) <= 1


def test_clips_of_one_exercise_in_folders_of_persons_are_not_exchanged():
    own = [sample(f"person_{i % 4}/{i}.mp4", "squats" if i < 20 else "lunges") for i in range(40)]
    exercise_of = exercises_of(own)
    assert all(row["exercise"] != exercise_of[video] for row, video in zip(own, swap_videos(own, 0), strict=True))


def test_the_exchange_is_the_same_for_a_seed_whatever_the_order_of_the_samples():
    own = samples(a=3, b=3, c=3)
    there = dict(zip((s["video"] for s in own), swap_videos(own, 1), strict=True))
    back = dict(zip((s["video"] for s in own[::-1]), swap_videos(own[::-1], 1), strict=True))
    assert there == back
    assert there != dict(zip((s["video"] for s in own), swap_videos(own, 2), strict=True))


def test_an_exercise_meets_more_than_one_other():
    own = samples(a=6, b=6, c=6)
    exercise_of = exercises_of(own)
    met = {(row["exercise"], exercise_of[video]) for row, video in zip(own, swap_videos(own, 0), strict=True)}
    assert len(met) == 6


def test_a_question_meets_a_clip_of_which_it_is_asked_too():
    deep, back = "<video>\nIs it deep?", "<video>\nIs the back straight?"
    own = [sample(f"{name}{i}.mp4", name, deep) for name in "ab" for i in range(3)]
    own += [sample(f"{name}{i}.mp4", name, back) for name in "cd" for i in range(3)]
    asked = {row["video"]: row["conversations"][0]["value"] for row in own}
    for row, video in zip(own, swap_videos(own, 0), strict=True):
        assert asked[video] == asked[row["video"]] and video[0] != row["exercise"]


def test_a_question_about_one_exercise_alone_still_meets_a_clip_of_another():
    own = [sample("a.mp4", "a", "<video>\nDeep?"), sample("b.mp4", "b", "<video>\nStraight?")]
    assert swap_videos(own, 0) == ["b.mp4", "a.mp4"]


@pytest.mark.parametrize("counts", [{"squats": 3}, {}])
def test_one_exercise_alone_has_no_control(counts):
    assert swap_videos(samples(**counts), 0) == [None] * sum(counts.values())
