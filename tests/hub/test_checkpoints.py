import hashlib
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.hub.checkpoints import describe_folder, fetch

COMMIT = "c" * 40


@pytest.fixture
def hub(monkeypatch):
    """A hub with two files; ``hub.error`` is raised if set, ``hub.asked`` counts downloads."""
    hub = SimpleNamespace(files={"model.bin": b"weights", "notes.txt": b"notes"}, error=None, asked=0, damage=0)
    hub.waits = []
    monkeypatch.setattr(time, "sleep", hub.waits.append)

    def model_info(self, repo_id, revision, files_metadata):
        if hub.error:
            raise hub.error
        lfs = SimpleNamespace(sha256=hashlib.sha256(b"weights").hexdigest())
        large = SimpleNamespace(rfilename="model.bin", lfs=lfs)
        return SimpleNamespace(sha=COMMIT, siblings=[large, SimpleNamespace(rfilename="notes.txt", lfs=None)])

    def snapshot_download(repo_id, revision, local_dir, allow_patterns):
        assert revision == COMMIT
        hub.asked += 1
        for name in huggingface_hub.utils.filter_repo_objects(hub.files, allow_patterns=allow_patterns):
            local_dir.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_bytes(hub.files[name][:: -1 if hub.asked <= hub.damage else 1])
        (local_dir / ".cache").mkdir(exist_ok=True)
        (local_dir / ".cache" / "x").write_text("x")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return hub


def test_a_fetched_folder_records_where_its_files_came_from(hub, tmp_path):
    record = fetch("o/n", tmp_path / "n", "main", ["*.bin"])
    assert record == {
        "repo_id": "o/n",
        "revision": "main",
        "commit": COMMIT,
        "files": {"model.bin": file_digest(tmp_path / "n/model.bin")},
    }
    assert json.loads((tmp_path / "n/fetched.json").read_text()) == record


def test_what_is_there_unchanged_is_not_fetched_again(hub, tmp_path):
    record = fetch("o/n", tmp_path, "main")
    hub.error = OfflineModeIsEnabled("offline")
    assert fetch("o/n", tmp_path, "main") == record
    hub.error = None
    (tmp_path / "model.bin").write_bytes(b"other")
    assert fetch("o/n", tmp_path, "main") == record
    fetch("o/n", tmp_path, "v2")
    assert hub.asked == 3


@pytest.mark.parametrize(
    "error",
    [OfflineModeIsEnabled("offline"), HTTPError("no route"), ConnectionError("reset"), TimeoutError()],
)
def test_without_the_hub_the_message_says_what_to_copy_and_a_copied_folder_is_used(hub, tmp_path, error, caplog):
    hub.error = error
    with pytest.raises(InputError) as raised:
        fetch("o/n", tmp_path / "n", "main", ["model.bin"], missing=["o/n", "p/m"])
    for part in (
        f"cannot reach the hub at https://huggingface.co ({type(error).__name__}), which 2 downloads need: o/n, p/m",
        "unset HF_HUB_OFFLINE" if "Offline" in type(error).__name__ else "set HF_ENDPOINT to a mirror",
        "`snakemake fetch` on another machine",
        f"by hand: model.bin of o/n (revision main) to {tmp_path}/n/",
        "`snakemake finetune --configfile config/tiny.yaml`",
    ):
        assert part in str(raised.value)
    pauses = {OfflineModeIsEnabled: [], ConnectionError: [1, 2, 4]}
    assert hub.waits == pauses.get(type(error), [1, 2, 4, 8, 16]), "asked again, with pauses"
    (tmp_path / "n").mkdir(exist_ok=True)
    (tmp_path / "n/model.bin").write_bytes(b"by hand")
    record = fetch("o/n", tmp_path / "n", "main", ["model.bin"])
    assert record["commit"] is None and list(record["files"]) == ["model.bin"]
    assert "unchecked" in caplog.text


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "log in"), (403, "ask for access"), (404, "check the name"), (503, "later")]
)
def test_the_hubs_refusals_name_repository_and_remedy(hub, tmp_path, status, remedy):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    hub.error = HfHubHTTPError("refused", response=response)
    with pytest.raises(InputError, match=rf"o/n \(revision main\): the hub answers {status}; .*{remedy}"):
        fetch("o/n", tmp_path, "main")
    assert not (tmp_path / "fetched.json").exists()
    assert len(hub.waits) == (5 if status == 503 else 0)


def test_weights_that_arrive_damaged_are_fetched_again(hub, tmp_path, caplog):
    hub.damage = 1
    assert fetch("o/n", tmp_path / "n")["files"]["model.bin"] == hashlib.sha256(b"weights").hexdigest()
    assert hub.asked == 2 and "model.bin arrived damaged" in caplog.text
    hub.damage = 9
    with pytest.raises(InputError, match=r"o/n \(revision main\): model\.bin arrived damaged twice"):
        fetch("o/n", tmp_path / "m")
    assert not (tmp_path / "m/fetched.json").exists() and not (tmp_path / "m/model.bin").exists()


def test_a_file_that_the_repository_lacks_is_named(hub, tmp_path):
    with pytest.raises(InputError, match=r"contains no other\.pth"):
        fetch("o/n", tmp_path, "main", ["model.bin", "other.pth"])


def test_a_folder_filled_by_hand_is_described(tmp_path):
    with pytest.raises(InputError, match="contains no file"):
        describe_folder(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/model.bin").write_bytes(b"weights")
    assert list(describe_folder(tmp_path)["files"]) == ["sub/model.bin"]
    assert list(describe_folder(tmp_path)["files"]) == ["sub/model.bin"]  # the record itself does not count


def test_the_real_client_without_a_connection_ends_in_plain_words(tmp_path):
    call = f"fetch('o/n', {str(tmp_path)!r}, 'main', ['model.bin'])"
    code = f"import time; time.sleep = print; from mobilevideogpt.hub.checkpoints import fetch; {call}"
    for setting in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        result = subprocess.run([sys.executable, "-c", code], env=os.environ | setting, capture_output=True, text=True)
        assert "InputError: cannot reach the hub at http" in result.stderr, result.stderr
        assert "needs: o/n (revision main)" in result.stderr
