import threading
import time

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.model.model_paths import ModelPaths, describe, read_base_ahead, repositories


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}")
    (tmp_path / "base/model.safetensors").write_bytes(b"weights")
    (tmp_path / "mamba.pth").write_bytes(b"mamba")
    return tmp_path


def test_paths_that_exist_are_local_and_others_name_a_repository(folder):
    model = {"base": "base", "video_encoder": "OpenGVLab/VideoMamba/m16.pth", "image_encoder": None}
    model["video_encoder_revision"] = "abc"
    assert repositories(model) == {"OpenGVLab/VideoMamba": {"revision": "abc", "patterns": ["m16.pth"]}}
    paths = ModelPaths.from_mapping(model)
    assert paths.local() == ModelPaths("base", "checkpoints/OpenGVLab/VideoMamba/m16.pth", None)
    assert paths.files() == [
        "base/config.json",
        "base/model.safetensors",
        "checkpoints/OpenGVLab/VideoMamba/fetched.json",
    ]


def test_the_digest_of_the_encoders_follows_the_files_that_contain_them_and_no_others(folder):
    inside = ModelPaths("base")
    apart = ModelPaths("base", "mamba.pth", "clip")
    (folder / "clip").mkdir()
    (folder / "clip/pytorch_model.bin").write_bytes(b"clip")
    before = [describe(paths, paths.files())["encoders_digest"] for paths in (inside, apart)]
    (folder / "base/config.json").write_text('{"top_k": 3}')
    assert [describe(paths, paths.files())["encoders_digest"] for paths in (inside, apart)] == before
    (folder / "base/model.safetensors").write_bytes(b"others")
    after = [describe(paths, paths.files())["encoders_digest"] for paths in (inside, apart)]
    assert after[0] != before[0] and after[1] == before[1]
    (folder / "mamba.pth").write_bytes(b"other")
    assert describe(apart, apart.files())["encoders_digest"] != before[1]


def test_the_record_of_a_download_stands_for_its_files(folder):
    record = folder / "checkpoints/owner/name/fetched.json"
    write_json({"files": {"model.safetensors": "1" * 64}}, record)
    paths = ModelPaths("owner/name")
    found = describe(paths.local(), paths.files())
    assert found["base"] == "checkpoints/owner/name"
    assert found["files"] == {"checkpoints/owner/name/model.safetensors": "1" * 64}
    assert describe(ModelPaths("base"), ["base/config.json"])["files"] == {
        "base/config.json": file_digest(folder / "base/config.json")
    }


def test_a_base_is_read_at_once_and_verified_by_a_thread_that_ends(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_text("as described")
    write_json(describe(ModelPaths(str(tmp_path)), [str(weights)]), tmp_path / "base.json")
    before = threading.active_count()
    base, verify = read_base_ahead(tmp_path / "base.json")
    assert base["base"] == str(tmp_path) and verify() == base
    weights.write_text("of another size")
    base, verify = read_base_ahead(tmp_path / "base.json")
    with pytest.raises(InputError, match=r"model\.safetensors: lost or changed"):
        verify()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
