import pytest
import torch

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError

N_VISUAL = 7


class Letters:
    """A double of the processor: a letter is a token; the header of a turn is supervised, as upstream."""

    num_visual_tokens = N_VISUAL
    video_token_id = 0

    def encode_text(self, prompt, response=None, num_visual_tokens=N_VISUAL):
        before, after = prompt.split("<video>")
        head = [1, *map(ord, before), *[0] * num_visual_tokens, *map(ord, after)]
        answer = [] if response is None else [*map(ord, response), 2]
        return {"input_ids": head + answer, "labels": [1] + [-100] * (len(head) - 1) + answer}


def sample(video, answer):
    turns = [{"from": "human", "value": "<video>\nQ"}, {"from": "gpt", "value": answer}]
    return {"video": video, "conversations": turns, "split": "train", "features": f"key{video[0]}"}


@pytest.fixture
def store(tmp_path):
    store = FeatureStore(tmp_path)
    for i in (1, 2):
        store.write(f"key{i}", {"video_features": torch.full((2, 4, 3), i), "context_features": torch.ones(16, 4, 5)})
    return store


def dataset(store, *samples, max_text_tokens=100):
    return AnnotatedVideos(samples, store, Letters(), max_text_tokens)


def lengths(data):
    return [len(data[i]["input_ids"]) for i in range(len(data))]


def test_an_item_contains_text_and_the_features_of_its_own_clip(store):
    data = dataset(store, sample("2.mp4", "abc"), sample("1.mp4", "d"))
    assert lengths(data) == [14, 12] and data.truncated == 0
    item = data[0]
    assert set(item) == {"input_ids", "labels", "attention_mask", "video_features", "context_features"}
    assert item["input_ids"].tolist() == [1, *[0] * N_VISUAL, 10, ord("Q"), *map(ord, "abc"), 2]
    assert item["labels"].shape == item["attention_mask"].shape == (14,)
    assert item["labels"].dtype == torch.int64 and item["attention_mask"].all()
    assert item["video_features"].unique().tolist() == [2]


def test_a_placeholder_in_a_text_is_refused(store):
    with pytest.raises(InputError, match=r"2\.mp4: its text contains the video's placeholder token 2 times"):
        dataset(store, sample("1.mp4", "abc"), sample("2.mp4", "a\0\0"))


def test_long_text_is_cut_counted_and_logged(store, caplog):
    data = dataset(store, sample("1.mp4", "abc"), sample("2.mp4", "d" * 50), max_text_tokens=8)
    assert data.truncated == 1 and lengths(data) == [14, 8 + N_VISUAL]
    assert "1 of 2 texts" in caplog.text
    assert data[1]["labels"][-5:].tolist() == [ord("d")] * 5


def test_a_sample_with_nothing_left_to_train_on_is_refused(store):
    with pytest.raises(InputError, match=r"1\.mp4: no token of its answer.*raise finetune\.max_text_tokens"):
        dataset(store, sample("1.mp4", "a"), sample("2.mp4", "b"), max_text_tokens=3)


def test_clips_without_features_are_listed(store):
    (store.path("key2")).unlink()
    with pytest.raises(InputError, match=r"2 clips have no features: 2\.mp4, 9\.mp4; run the same command again"):
        dataset(store, sample("1.mp4", "a"), sample("2.mp4", "a"), sample("9.mp4", "a"))


def test_a_malformed_sample_is_named(store):
    with pytest.raises(InputError, match=r"1\.mp4"):
        dataset(store, {"video": "1.mp4", "conversations": [], "features": "key1"})
