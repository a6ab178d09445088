import json
import os
import shutil
import signal
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training import trainer
from mobilevideogpt.training.checkpoints import FINGERPRINT, locked, read_fingerprint, write_fingerprint
from mobilevideogpt.training.digests import run_digests

STEPS = 6  # 5 clips by 2 in 2 epochs


def adapter(folder, name="adapter"):
    return load_file(folder / name / "adapter_model.safetensors")


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, f"the process ended before {path.name} was there"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def write_state(checkpoint, state):
    fingerprint = read_fingerprint(checkpoint)
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    write_fingerprint(checkpoint, fingerprint)


def test_lora_and_both_projectors_are_trained_and_saved_in_float32(finished, project):
    record, folder = finished
    tensors = adapter(folder)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    base = load_file(project.base / "model.safetensors")
    projectors = {name for name in base if "mm_projector" in name}
    saved = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    assert projectors <= saved.keys()
    assert not [name for name in projectors if torch.equal(saved[name], base[name])]
    assert not [name for name in saved if "lora_B" in name and not saved[name].any()]
    assert record["parameters"]["projectors"] == sum(base[name].numel() for name in projectors)
    assert record["steps"] == STEPS and record["losses"]["val_last"] < record["losses"]["val_first"]


def test_the_adapter_on_disk_has_the_validation_loss_that_training_saw(finished, project):
    record, folder = finished
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(project.base, dtype=torch.float32)
    model = load_adapter(model, folder / "adapter").eval()
    processor = MobileVideoGPTProcessor.from_pretrained(folder / "adapter")
    dataset = AnnotatedVideos(project.val, project.store, processor, 2048)
    with torch.no_grad():
        loss = model(**processor.pad([dataset[n] for n in range(len(dataset))])).loss
    assert loss.item() == pytest.approx(record["adapters"]["best"]["val_loss"], rel=1e-5)


def test_each_kind_of_parameter_has_its_learning_rate(finished):
    rates = [(e["learning_rate_lora"], e["learning_rate_projectors"]) for e in log(finished[1]) if "loss" in e]
    assert len(rates) == STEPS
    assert max(rates) == (1e-3, 3e-4)
    assert all(projectors == pytest.approx(0.3 * lora) for lora, projectors in rates)


def test_validation_is_logged_before_training_and_after_each_epoch(finished):
    assert [e["step"] for e in log(finished[1]) if "eval_loss" in e] == [0, 3, 6]


@pytest.mark.parametrize("number, workers", [(signal.SIGKILL, 0), (signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_run_that_was_stopped_ends_bit_for_bit_where_an_uninterrupted_one_does(
    number, workers, project, finished, tmp_path, capfd
):
    run = tmp_path / "run"
    process = project.start(run, batch_size="auto", effective_batch_size=2, num_workers=workers)  # fits at once
    wait_for(run / "checkpoint-2" / FINGERPRINT, process)
    process.send_signal(number)
    status = process.wait(timeout=60)
    assert not (run / "adapter").exists() and not (run / "train.json").exists()
    if number != signal.SIGKILL:
        assert status == 128 + number
        last = max(e["step"] for e in log(run))
        assert (run / f"checkpoint-{last}" / FINGERPRINT).exists()
        told = run.with_suffix(".log").read_text()
        assert f"Stopped at step {last} of {STEPS}; checkpoint-{last} is saved." in told
    record = project.finetune(run, num_workers=workers)
    assert record["resumed_from"] >= 2
    step = record["resumed_from"]
    assert f"Resuming from checkpoint-{step}, step {step} of {STEPS}" in capfd.readouterr().err
    assert all(torch.equal(tensor, adapter(run)[name]) for name, tensor in adapter(finished[1]).items())
    assert log(run)[:-1] == log(finished[1])[:-1]  # the last entry tells the seconds
    assert log(run)[-1]["train_loss"] == log(finished[1])[-1]["train_loss"]
    assert record["losses"] == finished[0]["losses"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_base_that_changed_since_it_was_described_trains_nothing(processes, project, tmp_path):
    shutil.copytree(project.folder, tmp_path / "project")
    changed = replace(project, folder=tmp_path / "project")
    weights = str(changed.base / "model.safetensors")
    base = {**changed.paths.named, "files": {weights: "another digest"}, "encoders_digest": ""}
    (changed.folder / "base.json").write_text(json.dumps(base))
    assert changed.start(tmp_path / "run", processes=processes).wait(timeout=120) == 1
    assert f"{weights}: lost or changed" in (tmp_path / "run.log").read_text()
    assert not [*(tmp_path / "run").glob("checkpoint-*")]


def test_the_state_that_is_written_beside_the_next_steps_is_that_of_its_own(project, tmp_path, monkeypatch):
    expected, own = {}, trainer.FinetuneTrainer
    save, complete = own._save_optimizer_and_scheduler, own._complete

    def saved(self, output_dir):
        expected[self.state.global_step] = deepcopy(self.optimizer.state_dict()["state"])
        save(self, output_dir)

    def completed_late(self, *arguments):
        time.sleep(0.5)  # for a step
        complete(self, *arguments)

    monkeypatch.setattr(own, "_save_optimizer_and_scheduler", saved)
    monkeypatch.setattr(own, "_complete", completed_late)
    project.finetune(tmp_path / "run")
    assert {2, 3, 4, 6} <= expected.keys()
    for step, state in expected.items():
        found = torch.load(tmp_path / f"run/checkpoint-{step}/optimizer.pt", weights_only=True)["state"]
        assert found.keys() == state.keys()
        assert all(torch.equal(found[n][name], tensor) for n in state for name, tensor in state[n].items())


def test_a_checkpoint_that_cannot_be_completed_ends_the_training_and_leaves_nothing(project, tmp_path, monkeypatch):
    def fail(folder, fingerprint):
        raise OSError(f"{folder.name} cannot be read")

    monkeypatch.setattr(trainer, "write_fingerprint", fail)
    with pytest.raises(OSError, match=r"checkpoint-2-.* cannot be read"):
        project.finetune(tmp_path)
    assert not [path for path in tmp_path.iterdir() if "checkpoint" in path.name]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, path.stat().st_size // 2)])
def test_a_checkpoint_that_lacks_a_file_or_part_of_one_is_passed_over(damage, project, finished, tmp_path):
    run = shutil.copytree(finished[1], tmp_path / "run")
    checkpoint, adapter_folder = run / f"checkpoint-{STEPS}", run / "adapter"
    for path in [*checkpoint.iterdir(), *adapter_folder.iterdir()]:
        shutil.copyfile(path, tmp_path / "whole")
        assert read_fingerprint(path.parent) is not None
        damage(path)
        assert read_fingerprint(path.parent) is None, path.name
        shutil.copyfile(tmp_path / "whole", path)
    damage(checkpoint / "optimizer.pt")
    damage(adapter_folder / "adapter_model.safetensors")
    record = project.finetune(run)
    assert record["resumed_from"] == STEPS - 2
    assert all(torch.equal(tensor, adapter(run)[name]) for name, tensor in adapter(finished[1]).items())


def test_a_finished_run_is_not_trained_again(project, finished, tmp_path):
    record, folder = finished
    before = (folder / "adapter" / FINGERPRINT).stat().st_mtime_ns
    assert project.finetune(folder) == json.loads(json.dumps(record))
    assert (folder / "adapter" / FINGERPRINT).stat().st_mtime_ns == before


def test_another_digest_is_trained_afresh_and_the_adapter_before_is_kept(project, tmp_path, caplog):
    run = tmp_path / "run"
    project.finetune(run, "one", epochs=1)
    before = adapter(run)
    (run / "checkpoint-99").mkdir()  # half a checkpoint
    (run / ".checkpoint-5-abc").mkdir()  # and one that was killed while it was written
    poisoned = [project.train[0] | {"features": "f" * 64}, *project.train[1:]]
    nan = {name: tensor * float("nan") for name, tensor in project.store.read(f"{0:064}").items()}
    project.store.write("f" * 64, nan)
    parts = {"batch_size": 1, "gradient_accumulation_steps": 2}  # of which one is named
    with pytest.raises(InputError, match=r"loss is nan in step \d, on [^,]*0000.mp4; last good checkpoint: none"):
        project.finetune(run, "two", train=poisoned, epochs=1, save_steps=50, **parts)
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter(run).items())
    assert (run / "stale" / "one" / "checkpoint-3" / FINGERPRINT).exists()
    assert (run / "stale" / "incomplete" / "checkpoint-99").exists()
    assert not (run / ".checkpoint-5-abc").exists()
    assert "was made from other data, settings or code" in caplog.text

    record = project.finetune(run, "two", epochs=1, learning_rate=2e-3)
    assert record["resumed_from"] is None and record["digest"] == "two"
    kept = load_file(run / "previous" / "adapter_model.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in kept.items())
    assert not all(torch.equal(before[name], tensor) for name, tensor in adapter(run).items())


def test_a_non_finite_validation_loss_stops_the_run_with_the_clip(project, tmp_path):
    good, bad = project.val
    nan = {name: tensor * float("nan") for name, tensor in project.store.read(bad["features"]).items()}
    project.store.write("e" * 64, nan)
    with pytest.raises(InputError, match=r"validation loss is nan in step 0, on [^;]*0006\.mp4; last good"):
        project.finetune(tmp_path, val=[good, bad | {"features": "e" * 64}])


@pytest.mark.slow
def test_without_a_stage_deepspeed_is_not_imported_so_a_broken_one_does_no_harm(project, tmp_path):
    (tmp_path / "deepspeed.py").write_text("import os; os._exit(97)")
    process = project.start(tmp_path / "run", before=tmp_path, epochs=0.4)
    assert process.wait(timeout=60) == 0
    record = json.loads((tmp_path / "run" / "train.json").read_text())
    assert record["digests"].keys() == {"settings", "data", "features", "base", "code"}


def test_a_loss_that_explodes_stops_the_run_with_the_clips_and_the_last_good_checkpoint(project, tmp_path):
    changes = {"batch_size": 1, "val": [], "save_steps": 2}
    project.finetune(tmp_path, epochs=1, **changes)
    (tmp_path / "adapter").rename(tmp_path / "away")
    state = json.loads((tmp_path / "checkpoint-5/trainer_state.json").read_text())
    for entry in state["log_history"]:
        entry["loss"] = 0.01  # as if what was learned until then were lost now
    write_state(tmp_path / "checkpoint-5", state)
    where = f"{tmp_path}/checkpoint-5"
    with pytest.raises(InputError, match=rf"in step 6, on dataset/squats/\d+.mp4; last good checkpoint: {where}\."):
        project.finetune(tmp_path, epochs=2, **changes)
    assert (tmp_path / "checkpoint-6" / FINGERPRINT).exists() and not (tmp_path / "adapter").exists()


def test_a_second_run_is_refused_and_told_who_holds_the_folder(project, tmp_path):
    with locked(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()} on "):
        project.finetune(tmp_path)


def test_training_ends_early_when_validation_no_longer_improves_and_stays_ended(project, tmp_path):
    # Training never sees the bytes of these answers. Whatever the weights, learning other bytes raises their loss.
    answer = {"from": "gpt", "value": "ZZZZ QQQQ ZZZZ QQQQ"}
    val = [sample | {"conversations": [sample["conversations"][0], answer]} for sample in project.val]
    changes = {"epochs": 5, "learning_rate": 1e-2, "early_stopping_patience": 1, "val": val}
    first = project.finetune(tmp_path / "run", **changes)
    assert first["steps"] < 15
    (tmp_path / "run" / "adapter").rename(tmp_path / "lost")
    assert project.finetune(tmp_path / "run", **changes)["steps"] == first["steps"]


def test_the_best_and_the_last_adapter_are_kept_and_a_resumed_run_knows_the_best_so_far(project, tmp_path):
    project.finetune(tmp_path, epochs=1)
    first = adapter(tmp_path)
    (tmp_path / "adapter").rename(tmp_path / "away")
    state = json.loads((tmp_path / "checkpoint-3/trainer_state.json").read_text())
    state["log_history"][-1]["eval_loss"] = 0.5  # as if no later epoch came up to it
    write_state(tmp_path / "checkpoint-3", state)
    record = project.finetune(tmp_path, epochs=3, save_total_limit=1, keep="best")
    assert record["resumed_from"] == 3 and record["kept"] == "best"
    assert record["adapters"]["best"] == {"path": "adapter", "step": 3, "epoch": 1.0, "val_loss": 0.5}
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-9"]
    assert all(torch.equal(tensor, adapter(tmp_path)[name]) for name, tensor in first.items())
    last = adapter(tmp_path, "adapter-last")
    assert not any(torch.equal(tensor, last[name]) for name, tensor in first.items())

    record = project.finetune(tmp_path, epochs=3, save_total_limit=1)  # trains no step
    assert record["resumed_from"] == 9 and record["kept"] == "last" and not (tmp_path / "adapter-last").exists()
    assert all(torch.equal(tensor, adapter(tmp_path)[name]) for name, tensor in last.items())
    assert all(torch.equal(tensor, adapter(tmp_path, "adapter-best")[name]) for name, tensor in first.items())


def test_an_empty_training_split_is_refused(project, tmp_path):
    with pytest.raises(InputError, match="training split is empty"):
        replace(project, train=[]).finetune(tmp_path)


def test_bf16_and_checkpointing_train_without_validation(project, tmp_path):
    record = project.finetune(tmp_path / "run", val=[], precision="bf16", gradient_checkpointing=True, epochs=1.4)
    assert record["steps"] == 5 and record["losses"]["val_last"] is None
    assert {tensor.dtype for tensor in adapter(tmp_path / "run").values()} == {torch.float32}


def test_a_batch_taken_in_parts_teaches_the_same(project, tmp_path):
    changes = {"lora_dropout": 0.0, "group_by_length": True}
    whole = project.finetune(tmp_path / "whole", **changes)
    parts = project.finetune(tmp_path / "parts", **changes, batch_size=1, gradient_accumulation_steps=2)
    assert whole["batch"] == {"effective": 2, "micro": 2, "accumulation": 1, "gradient_checkpointing": False}
    assert parts["batch"] == {"effective": 2, "micro": 1, "accumulation": 2, "gradient_checkpointing": False}
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    for name, tensor in adapter(tmp_path / "whole").items():
        torch.testing.assert_close(adapter(tmp_path / "parts")[name], tensor, rtol=1e-3, atol=1e-5)


def test_balanced_exercises_change_the_digest_by_their_names(project):
    renamed = [sample | {"exercise": "lunges"} for sample in project.train]
    for balance, differs in (("none", False), ("exercise", True)):
        settings = project.settings(balance=balance).result_affecting()
        one, other = (run_digests(settings, train, [], {"files": {}}, "")["data"] for train in (project.train, renamed))
        assert (one != other) == differs


@pytest.mark.slow
def test_two_processes_that_were_stopped_end_bit_for_bit_where_uninterrupted_ones_do_and_learn_what_one_does(
    project, tmp_path
):
    alone = project.finetune(tmp_path / "alone", lora_dropout=0.0)
    changes = {"deepspeed": "auto", "processes": 2, "lora_dropout": 0.0}  # DDP
    whole = project.start(tmp_path / "whole", **changes)
    assert whole.wait(timeout=120) == 0
    stopped = project.start(tmp_path / "stopped", **changes)
    wait_for(tmp_path / "stopped" / "checkpoint-2" / FINGERPRINT, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=60) == 128 + signal.SIGTERM
    shutil.copytree(tmp_path / "stopped", tmp_path / "fewer")
    fewer = project.finetune(tmp_path / "fewer", lora_dropout=0.0)
    assert fewer["resumed_from"] >= 2 and fewer["world_size"] == 1
    assert fewer["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert project.start(tmp_path / "stopped", **changes).wait(timeout=120) == 0
    record, expected = (json.loads((tmp_path / run / "train.json").read_text()) for run in ("stopped", "whole"))
    assert record["resumed_from"] >= 2 and (record["world_size"], record["deepspeed"]) == (2, None)
    assert record["losses"] == expected["losses"]
    for name, tensor in adapter(tmp_path / "whole").items():
        assert torch.equal(adapter(tmp_path / "stopped")[name], tensor), name
        torch.testing.assert_close(adapter(tmp_path / "fewer")[name], tensor, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(tensor, adapter(tmp_path / "alone")[name], rtol=1e-3, atol=1e-4)
    assert expected["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    this = expected["this_run"]
    assert len(this["processes"]) == 2 and this["samples_per_second"] > 0
    assert sum(this["seconds_of"].values()) == pytest.approx(this["seconds"], abs=0.2)
    assert min(this["seconds_of"].values()) > 0
