import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from mobilevideogpt.data import feature_stage
from mobilevideogpt.data.feature_files import feature_path
from mobilevideogpt.data.feature_stage import compute_features
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.model.model_paths import ModelPaths

CLIPS = {"1.mp4": "digest 1", "2.mp4": "digest 2", "copy.mp4": "digest 1"}


@pytest.fixture
def base(tmp_path):
    write_json({"image_num_heads": 2, "hidden_size": 8, "num_frames": 16}, tmp_path / "base/config.json")
    return tmp_path / "base"


@pytest.fixture
def compute(base, tmp_path, monkeypatch):
    """Computes keys; returns them and the paths of the clips whose features were missing."""
    extracted = []
    monkeypatch.setattr(feature_stage, "_extract", lambda *arguments, **_: extracted.append(arguments[3]))

    def run(encoders_digest="e", **changes):
        extracted.clear()
        options = {
            "dtype": "float16",
            "precision": "auto",
            "batch_size": 2,
            "code": "c",
            "cache": True,
            "threads": 1,
        } | changes
        keys = compute_features(ModelPaths(str(base)), encoders_digest, CLIPS, tmp_path / "features", **options)
        return keys, [path for missing in extracted for path in missing.values()]

    return run


def changed_base():
    raise InputError("the base changed")


def test_a_base_that_changed_is_noticed_without_missing_features(compute):
    with pytest.raises(InputError, match="the base changed"):
        compute(cache=False, verify=changed_base)


def test_a_base_that_changed_is_noticed_before_a_feature_is_computed(base, tmp_path, monkeypatch):
    monkeypatch.setattr("mobilevideogpt.model.modeling.load_encoders", lambda *_: None)
    monkeypatch.setattr("mobilevideogpt.data.extraction.extract_features", lambda *_, **__: pytest.fail("computed"))
    options = {"dtype": "float16", "precision": "auto", "batch_size": 2, "code": "c", "cache": True, "threads": 1}
    with pytest.raises(InputError, match="the base changed"):
        compute_features(ModelPaths(str(base)), "e", CLIPS, tmp_path / "features", verify=changed_base, **options)


def test_missing_features_are_computed_once_for_clips_of_equal_content(compute):
    keys, missing = compute()
    assert missing == ["1.mp4", "2.mp4"] and keys["1.mp4"] == keys["copy.mp4"] != keys["2.mp4"]


def test_without_a_cache_keys_are_the_same_and_nothing_is_computed(compute):
    keys, _ = compute()
    assert compute(cache=False) == (keys, [])


def test_keys_depend_on_encoders_their_geometry_number_format_frames_and_code_alone(compute, base):
    keys, _ = compute()
    assert compute(batch_size=9, threads=4)[0] == keys
    config = read_json(base / "config.json")
    write_json(config | {"hidden_size": 99}, base / "config.json")
    assert compute()[0] == keys
    others = [compute(encoders_digest="f"), compute(dtype="float32"), compute(code="d"), compute(precision="fp32")]
    write_json(config | {"image_num_heads": 4}, base / "config.json")
    others.append(compute())
    write_json(config, base / "config.json")
    write_json({"min_frames": 8}, base / "processor_config.json")
    others.append(compute())
    assert len({keys["1.mp4"], *(other["1.mp4"] for other, _ in others)}) == 7


def test_a_run_that_misses_nothing_imports_no_pytorch(compute, base, tmp_path):
    keys, _ = compute()
    for key in keys.values():
        write_features(feature_path(tmp_path / "features", key))
    program = (
        "import sys; from mobilevideogpt.data.feature_stage import compute_features\n"
        "from mobilevideogpt.model.model_paths import ModelPaths\n"
        "options = {'dtype': 'float16', 'precision': 'auto', 'batch_size': 2, 'code': 'c', 'cache': True}\n"
        "options['threads'] = 1\n"
        f"compute_features(ModelPaths(sys.argv[1]), 'e', {CLIPS}, sys.argv[2], **options)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(base), str(tmp_path / "features")], check=True)


def write_features(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"video_features": np.zeros(2)}, path)
