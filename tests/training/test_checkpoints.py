"""Folders of a run, without training."""

import json
import shutil
import subprocess
import sys

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.checkpoints import (
    FINGERPRINT,
    Fingerprint,
    Mismatch,
    adapter_is_intact,
    archive_stale_checkpoints,
    content_digest,
    finished,
    locked,
    lost_beside,
    mismatch,
    newest_checkpoint,
    prune_checkpoints,
    read_fingerprint,
    record_beside,
    recorded_content,
    verified_adapter,
    write_fingerprint,
)

ONE = Fingerprint("one", 1, None)


def write_folder(folder, fingerprint=ONE):
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1234")
    (folder / "train.json").write_text(json.dumps({"digest": fingerprint.digest, "keep": "last"}))
    write_fingerprint(folder, fingerprint)
    return folder


def test_the_module_imports_no_torch_so_that_rules_may_import_it():
    code = "import sys, mobilevideogpt.training.checkpoints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fingerprint_is_read_as_it_was_written_and_is_none_for_an_incomplete_folder(tmp_path):
    folder = write_folder(tmp_path / "checkpoint-1", Fingerprint("two", 2, "zero2"))
    assert read_fingerprint(folder) == Fingerprint("two", 2, "zero2")
    for content in ("", "[]", "{}", '{"bytes": {}}'):
        (folder / FINGERPRINT).write_text(content)
        assert read_fingerprint(folder) is None
    write_fingerprint(folder, ONE)
    (folder / "weights").write_bytes(b"12")
    assert read_fingerprint(folder) is None


def test_a_checkpoint_is_resumed_under_the_same_inputs_and_stage_by_any_number_of_processes():
    assert mismatch(ONE, ONE) is None
    assert mismatch(None, ONE) is Mismatch.INCOMPLETE
    assert mismatch(Fingerprint("two", 1, None), ONE) is Mismatch.INPUTS
    assert mismatch(Fingerprint("one", 2, None), ONE) is mismatch(ONE, Fingerprint("one", 4, None)) is None
    assert mismatch(Fingerprint("one", 1, "zero2"), ONE) is mismatch(ONE, Fingerprint("one", 1, "zero2"))
    assert mismatch(Fingerprint("one", 1, "zero2"), ONE) is Mismatch.STAGE
    assert mismatch(Fingerprint("one", 2, "zero2"), Fingerprint("one", 4, "zero2")) is None


def test_stale_checkpoints_are_archived_by_digest_and_the_newest_of_the_others_is_found(tmp_path, caplog):
    for step, fingerprint in (
        (2, ONE),
        (4, ONE),
        (6, Fingerprint("two", 1, None)),
        (8, Fingerprint("one", 2, "zero2")),
    ):
        write_folder(tmp_path / f"checkpoint-{step}", fingerprint)
    (tmp_path / "checkpoint-10").mkdir()
    archive_stale_checkpoints(tmp_path, ONE)
    archived = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("stale/*/*"))
    assert archived == ["stale/incomplete/checkpoint-10", "stale/one/checkpoint-8", "stale/two/checkpoint-6"]
    assert "is incomplete; not resumed" in caplog.text and "another DeepSpeed stage" in caplog.text
    assert newest_checkpoint(tmp_path, ONE) == tmp_path / "checkpoint-4"
    assert newest_checkpoint(tmp_path, ONE, before=4) == tmp_path / "checkpoint-2"


def test_all_but_the_newest_and_the_best_checkpoints_are_deleted(tmp_path):
    for step in (1, 2, 3, 10):
        write_folder(tmp_path / f"checkpoint-{step}")
    prune_checkpoints(tmp_path, newest=2, best_step=1)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-3", "checkpoint-10"}


def test_a_training_is_finished_if_the_adapter_is_complete_and_of_the_same_digest_and_choice(tmp_path):
    assert finished(tmp_path, "one", "last") is None
    write_folder(tmp_path / "adapter")
    assert finished(tmp_path, "one", "last") == {"digest": "one", "keep": "last"}
    assert finished(tmp_path, "two", "last") is None
    assert finished(tmp_path, "one", "best") is None


def test_an_adapter_is_intact_if_it_is_complete_and_the_one_of_the_run_record(tmp_path):
    assert adapter_is_intact(tmp_path), "no record: nothing is missing"
    record = tmp_path / "train.json"
    record.write_text(json.dumps({"digest": "one"}))
    assert not adapter_is_intact(tmp_path)
    adapter = write_folder(tmp_path / "adapter")
    trained = {"digest": "one", "adapter_content": recorded_content(adapter)}
    record.write_text(json.dumps(trained))
    assert adapter_is_intact(tmp_path)
    for other in ({"digest": "two"}, {"adapter_content": "two"}):
        record.write_text(json.dumps(trained | other))
        assert not adapter_is_intact(tmp_path), "another run's adapter"
    record.write_text("{")
    assert not adapter_is_intact(tmp_path)


def test_a_locked_folder_refuses_a_second_process_by_name(tmp_path):
    code = "import sys; from pathlib import Path; from mobilevideogpt.training.checkpoints import locked\n"
    code += "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match=f"process {other.pid} on .* is training here"), locked(tmp_path):
            pass
        other.stdin.close()
    with locked(tmp_path):
        pass


def write_run(folder):
    adapter = write_folder(folder / "adapter")
    record = {"digest": "one", "adapter": "adapter", "adapter_content": recorded_content(adapter)}
    (folder / "train.json").write_text(json.dumps(record))
    return adapter


def test_a_copied_run_uses_its_own_adapter_whatever_becomes_of_the_first(tmp_path):
    adapter = write_run(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (adapter / "weights").write_bytes(b"5678")
    assert verified_adapter(tmp_path / "c") == tmp_path / "c/adapter"
    (tmp_path / "c").rename(tmp_path / "moved")
    assert verified_adapter(tmp_path / "moved") == tmp_path / "moved/adapter"


@pytest.mark.parametrize("damage", ["zeroed", "exchanged", "deleted"])
def test_an_adapter_of_other_content_is_refused_whatever_its_size(damage, tmp_path):
    adapter = write_run(tmp_path)
    if damage == "zeroed":
        (adapter / "weights").write_bytes(bytes(4))
    elif damage == "exchanged":
        (adapter / "weights").write_bytes(b"5678")
        write_fingerprint(adapter, ONE)
    else:
        shutil.rmtree(adapter)
    with pytest.raises(InputError, match="--forcerun finetune"):
        verified_adapter(tmp_path)
    assert (finished(tmp_path, "one", "last") is None) == (damage != "exchanged")


def test_the_content_of_an_adapter_is_not_that_of_its_records(tmp_path):
    adapter = write_run(tmp_path)
    before = content_digest(adapter)
    (adapter / "train.json").write_text("{}")
    assert content_digest(adapter) == before == recorded_content(adapter)


def test_a_damaged_checkpoint_of_equal_size_is_archived_and_an_older_one_resumed(tmp_path, caplog):
    for step in (2, 4, 6):
        write_folder(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-6/weights").write_bytes(b"4321")
    assert read_fingerprint(tmp_path / "checkpoint-6") == ONE, "sizes are equal"
    assert newest_checkpoint(tmp_path, ONE, verified=True) == tmp_path / "checkpoint-4"
    archive_stale_checkpoints(tmp_path, ONE)
    assert (tmp_path / "stale/damaged/checkpoint-6").is_dir() and "checkpoint-6 is damaged" in caplog.text
    assert newest_checkpoint(tmp_path, ONE) == tmp_path / "checkpoint-4"


def test_files_beside_the_adapter_are_missed_by_name(tmp_path):
    write_run(tmp_path)
    (tmp_path / "log.jsonl").write_text("{}")
    (tmp_path / "adapter-best").mkdir()
    (tmp_path / "adapter-best/weights").write_bytes(b"12")
    record_beside(tmp_path)
    assert adapter_is_intact(tmp_path) and lost_beside(tmp_path) == []
    (tmp_path / "log.jsonl").write_text("[]")
    assert not adapter_is_intact(tmp_path) and lost_beside(tmp_path) == ["log.jsonl"]
    shutil.rmtree(tmp_path / "adapter-best")
    assert lost_beside(tmp_path) == ["log.jsonl", "adapter-best/weights"]
    assert read_fingerprint(tmp_path / "adapter") == ONE
