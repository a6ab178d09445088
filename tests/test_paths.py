from mobilevideogpt.paths import ONE_DIGIT_UP_TO, shard_of, shards_of


def test_few_clips_go_to_16_shards_and_many_to_256():
    few = [f"dataset/squats/{i}.mp4" for i in range(ONE_DIGIT_UP_TO)]
    assert len(shards_of(few)) == 16
    assert len(shards_of([*few, "dataset/squats/one_more.mp4"])) == 256


def test_a_clip_stays_in_its_shard_when_others_come():
    clips = [f"dataset/squats/{i}.mp4" for i in range(30)]
    before, after = shards_of(clips[:10]), shards_of(clips)
    assert all(set(before[shard]) <= set(after[shard]) for shard in before)
    assert after[shard_of(clips[0], 1)][0] == clips[0]
