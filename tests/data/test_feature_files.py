import logging

import numpy as np
from safetensors.numpy import save_file

from mobilevideogpt.data.feature_files import feature_key, feature_path, missing_features

SETTINGS = {"dtype": "float16", "frames": 16}


def test_the_key_depends_on_clip_encoder_and_settings_only():
    key = feature_key("c", "e", {"dtype": "float16", "frames": 16})
    assert key == feature_key("c", "e", {"frames": 16, "dtype": "float16"})
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
