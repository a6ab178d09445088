import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import ONE_DIGIT_UP_TO, feature_shards_of, relative_path, shard_of, shards_of


def test_few_clips_go_to_16_shards_and_many_to_256():
    few = [f"dataset/squats/{i}.mp4" for i in range(ONE_DIGIT_UP_TO)]
    assert len(shards_of(few)) == 16
    assert len(shards_of([*few, "dataset/squats/one_more.mp4"])) == 256


def test_features_are_one_job_16_or_256_by_number_of_clips_or_as_set():
    assert [len(feature_shards_of(map(str, range(n)), "auto")) for n in (30, 63_999, 64_000)] == [0, 0, 16]
    clips = [str(i) for i in range(5000)]
    assert [len(feature_shards_of(clips, n)) for n in (1, 16, 256)] == [0, 16, 256]
    shards = feature_shards_of(clips, 256)
    assert all(shard_of(clip, 2) == shard for shard, found in shards.items() for clip in found)


def test_a_clip_stays_in_its_shard_when_others_come():
    clips = [f"dataset/squats/{i}.mp4" for i in range(30)]
    before, after = shards_of(clips[:10]), shards_of(clips)
    assert all(set(before[shard]) <= set(after[shard]) for shard in before)
    assert after[shard_of(clips[0], 1)][0] == clips[0]


@pytest.mark.parametrize("odd", ["\x9b", "\x85", "\u202e", "\u2066", "\u2028", "\ud800", "\x07"])
def test_a_name_that_a_terminal_would_show_as_another_is_refused_and_shown_escaped(odd):
    with pytest.raises(InputError, match=r"control character.*rename the clip") as caught:
        relative_path(f"squats/a{odd}4pm.mp4", "dataset", "manifest.json, entry 1")
    assert odd not in str(caught.value)
    assert relative_path("squats/Kniebeuge é 体 \u200d.mp4", "dataset", "here") == "squats/Kniebeuge é 体 \u200d.mp4"


def test_a_message_cuts_a_long_name():
    with pytest.raises(InputError, match=r"\(5,011 characters\)") as caught:
        relative_path("../" + "a" * 5000 + ".mp4"[:6] + "xx", "dataset", "here")
    assert len(str(caught.value)) < 400
