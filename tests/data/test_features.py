import resource

import pytest
import torch

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_written_reads_back_bit_by_bit(store, dtype):
    tensors = {"video_features": torch.randn(3, 2, 4, 3, dtype=dtype)[1], "context_features": torch.randn(16, 4, 5)}
    store.write("abc", tensors)
    assert "abc" in store and "abd" not in store
    assert store.path("abc").parent.name == "ab"
    for name, tensor in store.read("abc").items():
        assert torch.equal(tensor, tensors[name]) and tensor.dtype == tensors[name].dtype


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_damaged_features_are_noticed_when_read_and_deleted_with_the_lists(store, damage):
    store.write("abc", {"video_features": torch.ones(2, 4, 3)})
    index = store.folder / "train.json"
    index.write_text("{}")
    path = store.path("abc")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": data[:-10], "flipped": data, "emptied": b""}[damage])
    with pytest.raises(InputError, match=f"{path}: damaged.*; run the same command again to compute what is missing"):
        store.read("abc")
    assert not path.exists() and not index.exists()  # so that the same command computes them


def test_only_the_shards_that_lack_a_feature_are_made_again(store):
    for key in ("abc", "abd"):
        store.write(key, {"video_features": torch.ones(1)})
    lists = {"1": {"1.mp4": "abc"}, "2": {"2.mp4": "abd"}}
    for shard, keys in lists.items():
        write_json(keys, store.folder / f"shards/{shard}.json")
    (store.folder / "shards/3.json").write_text("{")
    store.path("abc").write_bytes(b"")
    with pytest.raises(InputError):
        store.read("abc")
    assert [path.name for path in store.folder.glob("shards/*.json")] == ["2.json"]


def test_features_of_another_clip_are_noticed(store):
    for key in ("abc", "abd"):
        store.write(key, {"video_features": torch.ones(2, 4, 3)})
    store.path("abd").rename(store.path("abc"))
    with pytest.raises(InputError, match=r"abc\.safetensors: contains the features of another clip; run the same"):
        store.read("abc")
    assert not store.path("abc").exists()


def test_the_scores_of_frames_are_no_input_of_the_model(store):
    store.write("abc", {"video_features": torch.ones(2, 4, 3), "frame_scores": torch.arange(16.0)})
    assert store.read("abc").keys() == {"video_features"}
    assert torch.equal(store.read_scores("abc"), torch.arange(16.0))


def test_missing_features_are_named(store):
    with pytest.raises(InputError, match=r"ab/abc\.safetensors: these features are missing; run the same command"):
        store.read("abc")


def test_features_that_cannot_be_written_are_named_and_leave_nothing(store):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes, in the place of a full disk
    try:
        with pytest.raises(InputError, match=r"abc\.safetensors: cannot be written .*free some space"):
            store.write("abc", {"video_features": torch.zeros(100), "context_features": torch.zeros(100)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
