"""What the workflow writes beside its declared outputs, damaged in four ways: noticed by each call or by its reader."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from mobilevideogpt import digest_cache
from mobilevideogpt.checksums import sums_are_right, write_sums
from mobilevideogpt.data.feature_files import read_clip_list, write_clip_list
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.samples import ClipFile
from mobilevideogpt.digest_cache import cached_digests
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.hub.checkpoints import describe_folder
from mobilevideogpt.model.model_paths import ModelPaths, describe, read_base
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.checkpoints import (
    Fingerprint,
    adapter_is_intact,
    finished,
    newest_checkpoint,
    record_beside,
    recorded_content,
    verified_adapter,
    write_fingerprint,
)
from tests.tiny import tiny_config

ONE = Fingerprint("one", 1, None)
BESIDE = ("adapter-best/weights", "log.jsonl", "trainer_state.json", "config.yaml", "tensorboard/events")
ADAPTER = ("adapter/weights", "adapter/train.json", "adapter/digest.json")


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit, and neither size nor the date that programs may set."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(path: Path) -> None:
    """Put another file of equal length and date in its place."""
    other, status = path.with_name("other"), path.stat()
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


DAMAGES = (delete, cut, flip, exchange)
damaged = pytest.mark.parametrize("damage", DAMAGES)


@pytest.fixture
def run(tmp_path):
    """A run's folder, as a training leaves it, without its weights."""
    folder = tmp_path / "run"
    for name in (ADAPTER[0], *BESIDE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    write_json({"digest": "one", "keep": "last"}, folder / "adapter/train.json")
    write_fingerprint(folder / "adapter", ONE)
    record_beside(folder)
    content = recorded_content(folder / "adapter")
    write_json({"digest": "one", "adapter": "adapter", "adapter_content": content}, folder / "train.json")
    return folder


@pytest.fixture
def by_call(tmp_path, monkeypatch):
    """Ask as each call of Snakemake does: digests come from the cache where the stat is equal."""
    monkeypatch.setattr(digest_cache, "SETTLED_NS", 0)

    def ask(question, *arguments):
        with cached_digests(tmp_path / "digests.json") as digest:
            return question(*arguments, digest)

    return ask


@damaged
@pytest.mark.parametrize("name", [*ADAPTER, *BESIDE])
def test_a_damaged_adapter_or_what_is_beside_it_is_noticed_by_each_call(name, damage, run, by_call):
    assert by_call(adapter_is_intact, run)
    damage(run / name)
    assert not by_call(adapter_is_intact, run)
    if name == "adapter/weights":
        with pytest.raises(InputError, match="run `snakemake --forcerun finetune`"):
            verified_adapter(run)
    if name in ADAPTER:
        assert finished(run, "one", "last") is None, "it would not be made again"


@damaged
def test_a_damaged_checkpoint_is_not_resumed(damage, tmp_path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/optimizer.pt").write_bytes(b"state")
        write_fingerprint(tmp_path / f"checkpoint-{step}", ONE)
    damage(tmp_path / "checkpoint-4/optimizer.pt")
    assert newest_checkpoint(tmp_path, ONE, verified=True) == tmp_path / "checkpoint-2"


@damaged
@pytest.mark.parametrize("name", ["model.safetensors", "SHA256SUMS"])
def test_a_damaged_export_plot_or_list_of_samples_is_noticed_by_each_call(name, damage, tmp_path, by_call):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    write_sums(folder)
    assert by_call(sums_are_right, folder)
    damage(folder / name)
    assert not by_call(sums_are_right, folder)


@damaged
def test_damaged_features_are_named_and_invalidated(damage, tmp_path):
    store = FeatureStore(tmp_path)
    store.write("aa", {"video_features": torch.rand(2, 3)})
    damage(store.path("aa"))
    with pytest.raises(InputError, match=r"aa\.safetensors: .*; run the same command again to compute what is missing"):
        store.read("aa")
    assert "aa" not in store


def test_features_of_another_clip_are_named_and_invalidated(tmp_path):
    store = FeatureStore(tmp_path)
    for key in ("aa", "ab"):
        store.write(key, {"video_features": torch.rand(2, 3)})
    store.path("ab").parent.mkdir(exist_ok=True)
    shutil.copy2(store.path("aa"), store.path("ab"))
    with pytest.raises(InputError, match="contains the features of another clip; run the same command again"):
        store.read("ab")
    assert "ab" not in store and "aa" in store


@damaged
def test_a_damaged_list_of_clips_is_named(damage, tmp_path):
    write_clip_list(tmp_path, {"aa": ClipFile("dataset/squats/1.mp4", "digest")}, "auto")
    damage(tmp_path / "clips.json")
    with pytest.raises(InputError, match=r"clips\.json: .*; run the same command again to compute what is missing"):
        read_clip_list(tmp_path)


@damaged
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_download_is_named_with_the_command_that_downloads_it_again(name, damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("checkpoints/owner/base")
    MobileVideoGPTForConditionalGeneration(tiny_config()).save_pretrained(folder, layout="official")
    describe_folder(folder, repo_id="owner/base", revision="main")
    write_json(describe(ModelPaths(str(folder)), [f"{folder}/fetched.json"]), "base.json")
    assert read_base("base.json")["base"] == str(folder)
    damage(folder / name)
    with pytest.raises(InputError, match=rf"{name}: lost or changed .*`snakemake --forcerun fetch_repository`"):
        read_base("base.json")


def test_a_file_is_read_again_only_if_its_stat_differs(tmp_path, monkeypatch, by_call):
    file, read = tmp_path / "file", []
    monkeypatch.setattr(digest_cache, "file_digest", lambda path: read.append(path) or file_digest(path))
    file.write_text("one")
    before = by_call(lambda digest: digest(file))
    assert by_call(lambda digest: digest(file)) == before and len(read) == 1
    flip(file)
    assert by_call(lambda digest: digest(file)) != before and len(read) == 2
    (tmp_path / "digests.json").write_text("[]")
    assert by_call(lambda digest: digest(file)) == file_digest(file) and len(read) == 3


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_file_of_this_moment_or_of_the_future_is_read_each_time(seconds, tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    now = os.stat(file).st_mtime + seconds
    os.utime(file, (now, now))
    for text in ("one", "two"):
        file.write_text(text)
        os.utime(file, (now, now))
        with cached_digests(tmp_path / "digests.json") as digest:
            assert digest(file) == file_digest(file)
    assert not (tmp_path / "digests.json").exists()
