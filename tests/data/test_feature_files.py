import logging

import numpy as np
import pytest
from safetensors.numpy import save_file

from mobilevideogpt.data.feature_files import feature_key, feature_path, missing_features, unnamed_features
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, write_json
from tests.tiny_model import run_script, tiny

__all__ = ["run_script", "tiny"]

SETTINGS = {"dtype": "float16", "frames": 16}


def test_the_key_depends_on_clip_encoder_and_settings_only():
    key = feature_key("c", "e", {"dtype": "float16", "frames": 16})
    assert key == feature_key("c", "e", {"frames": 16, "dtype": "float16"})
    assert key == json_digest({"clip": "c", "encoder": "e", "settings": SETTINGS})
    others = {feature_key("d", "e", SETTINGS), feature_key("c", "f", SETTINGS), feature_key("c", "e", {"frames": 8})}
    assert len(others | {key}) == 4


def test_missing_features_are_those_without_a_file_and_equal_clips_count_once(tmp_path):
    (tmp_path / "ke").mkdir()
    save_file({"x": np.zeros(3)}, feature_path(tmp_path, "key2"))
    keys = {"3.mp4": "key3", "1.mp4": "key1", "2.mp4": "key2", "copy of 1.mp4": "key1"}
    assert list(missing_features(tmp_path, keys).items()) == [("key1", "1.mp4"), ("key3", "3.mp4")]


def test_a_file_that_is_cut_short_is_deleted_and_counts_as_missing(tmp_path, caplog):
    path = feature_path(tmp_path, "key1")
    path.parent.mkdir()
    save_file({"x": np.zeros(3)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert missing_features(tmp_path, {"1.mp4": "key1"}) == {"key1": "1.mp4"}
    assert f"{path}: damaged" in caplog.text and not path.exists()


def test_features_that_no_list_names_are_listed_and_deleted(tmp_path, run_script, capsys):
    turns = [{"from": "human", "value": "<video>\nLook."}, {"from": "gpt", "value": "Good."}]
    for key in ("aa1", "aa2", "bb1"):
        feature_path(tmp_path, key).parent.mkdir(exist_ok=True)
        save_file({"x": np.zeros(3)}, feature_path(tmp_path, key))
    for split, key in (("train", "aa1"), ("val", "cc1")):
        sample = {"video": f"{key}.mp4", "exercise": "squats", "features": key, "conversations": turns}
        write_json([sample], tmp_path / f"{split}.json")
    with pytest.raises(InputError, match=r"test\.json: is missing, so that every file would be deleted"):
        unnamed_features(tmp_path)
    write_json([], tmp_path / "test.json")
    run_script("clean_features.py", {"store": str(tmp_path)})
    said = capsys.readouterr().out
    assert f"{tmp_path}/aa/aa2.safetensors\n" in said and "bb1" in said and "2 files" in said and "deleted" in said
    assert [path.name for path in tmp_path.glob("*/*")] == ["aa1.safetensors"] and not (tmp_path / "bb").exists()
    run_script("clean_features.py", {"store": str(tmp_path)})
    assert "nothing to delete" in capsys.readouterr().out
