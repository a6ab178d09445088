import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.training import micro_batch
from mobilevideogpt.training.curves import plot_training
from mobilevideogpt.training.memory import NCCL, TextTokens, predicted_bytes
from mobilevideogpt.training.micro_batch import fit_batch, what_would_fit, with_less_memory
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.preflight import preflight
from mobilevideogpt.training.settings import TrainingSettings

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


@without_gpu
def test_two_rehearsed_steps_tell_the_memory_and_the_disk_for_a_batch_that_was_left_to_the_machine(project, tmp_path):
    report = preflight(
        project.settings(batch_size="auto", effective_batch_size=6),
        base=project.base,
        run_folder=tmp_path / "new",
        allow_cpu=True,
        min_free_disk_gb=0,
        train=project.train,
        clips={"train": 5, "val": 2, "test": 0},
        store=tmp_path,
    )
    assert report["ok"] and report["device"] == "cpu", report["checks"]
    assert report["rehearsed_bytes"] == pytest.approx(report["predicted_bytes"], rel=0.5)
    assert report["batch"] == {"effective": 6, "micro": 6, "accumulation": 1, "gradient_checkpointing": False}
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert details["data"] == "5 clips in train, 2 clips in val, 0 clips in test"
    assert re.match(r"0\.00 GB for features, 0\.0\d GB for checkpoints", details["disk for features and checkpoints"])
    assert json.loads(json.dumps(report)) == report
    assert not list(tmp_path.glob(".rehearsal-*"))


@pytest.fixture
def released(tmp_path):
    """A folder with the released geometry."""
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


ONE = Launch(processes=1, deepspeed=None)
TEXT = TextTokens(prompt=64, answer=64)


def test_the_largest_batch_that_is_predicted_to_fit_is_taken_at_the_same_effective_batch(released, monkeypatch):
    settings = TrainingSettings(batch_size="auto", effective_batch_size=8)

    def chosen(free_bytes, launch=ONE, **known):
        monkeypatch.setattr(micro_batch, "free_bytes", lambda processes: free_bytes)
        fitted = fit_batch(settings, launch, released, TEXT, **known)
        assert fitted.result_affecting() == settings.result_affecting()
        assert fitted.batch_size * fitted.gradient_accumulation_steps == 8
        return fitted.batch_size // launch.processes

    assert chosen(80e9) == 8 and chosen(0.5e9) == 1
    assert chosen(1.2 * predicted_bytes(TrainingSettings(batch_size=2), released, TEXT, on_gpu=False)) == 2
    assert not fit_batch(settings, ONE, released, TEXT).gradient_checkpointing
    monkeypatch.setattr(micro_batch, "free_bytes", lambda processes: 0.5e9)
    assert fit_batch(settings, ONE, released, TEXT).gradient_checkpointing, "where not even one clip fits"
    assert chosen(80e9, most=4) == 4, "what a rehearsal found"
    assert chosen(80e9, before=2) == 2 and chosen(0.5e9, before=4) == 1, "what it was before, if it still fits"
    assert chosen(80e9, launch=Launch(2, None)) == 4


def test_less_memory_is_taken_by_smaller_parts_then_by_recomputation_then_not():
    tried, settings = [], TrainingSettings(batch_size=4)
    while settings:
        tried.append((settings.batch_size, settings.gradient_accumulation_steps, settings.gradient_checkpointing))
        settings = with_less_memory(settings, 1)
    assert tried == [(4, 1, False), (2, 2, False), (1, 4, False), (1, 4, True)]


def test_what_would_fit_is_named_with_its_cost_and_does(released):
    settings = TrainingSettings(batch_size=4)
    there = predicted_bytes(settings, released, TEXT) - 1
    told = what_would_fit(settings, ONE, released, TEXT, there)
    assert told.startswith("set finetune={batch_size: 2, gradient_accumulation_steps: 2} (")
    assert "GB; the same result, somewhat slower)" in told and "close what else" in told
    least = TrainingSettings(batch_size=1, gradient_accumulation_steps=4, gradient_checkpointing=True)
    told = what_would_fit(settings, ONE, released, TEXT, predicted_bytes(least, released, TEXT))
    assert "batch_size: 1, gradient_accumulation_steps: 4, gradient_checkpointing: true" in told
    assert what_would_fit(least, ONE, released, TEXT, 0) == "close what else uses the device's memory"


def test_an_empty_split_to_train_on_is_a_check_that_fails(project, tmp_path):
    options = {"base": project.base, "run_folder": tmp_path, "allow_cpu": True, "min_free_disk_gb": 0}
    report = preflight(project.settings(), **options, train=[])
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["data"]


@without_gpu
def test_without_a_gpu_nothing_is_rehearsed_unless_allowed(project, tmp_path):
    settings = project.settings()
    report = preflight(settings, base=project.base, run_folder=tmp_path, allow_cpu=False, min_free_disk_gb=1e9)
    assert not report["ok"] and report["rehearsed_bytes"] is None
    remedies = {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}
    assert "preflight.allow_cpu" in remedies["device"] and "preflight.min_free_disk_gb" in remedies["disk"]


@without_gpu
def test_what_deepspeed_cannot_do_is_a_check_that_fails(project, tmp_path):
    settings = project.settings(precision="fp16", deepspeed="zero2")
    report = preflight(settings, base=project.base, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    failed = {check["name"]: check["detail"] for check in report["checks"] if not check["ok"]}
    assert failed.keys() == {"precision", "processes"} and "zero2" in failed["processes"]


@without_gpu
def test_a_library_to_report_to_that_is_not_installed_is_a_check_that_fails(project, tmp_path, monkeypatch):
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else installed(name))
    settings = project.settings(report_to=["tensorboard", "wandb"])
    report = preflight(settings, base=project.base, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    failed = {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}
    assert failed.keys() == {"report_to"} and "pip install wandb" in failed["report_to"]
    with pytest.raises(InputError, match="pip install wandb"):
        project.finetune(tmp_path / "run", report_to=["wandb"])


@without_gpu
def test_a_rehearsal_that_fails_is_told_with_its_reason(project, tmp_path):
    settings = project.settings()
    base = Path(copytree(project.base, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    (tmp_path / ".rehearsal-abc").mkdir()  # of one that was killed
    report = preflight(settings, base=base, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    assert not report["ok"] and "rehearsal of two steps failed" in report["checks"][-1]["detail"]
    assert not list(tmp_path.glob(".rehearsal-*"))


def test_what_takes_more_memory_is_predicted_to(released, monkeypatch):
    def predicted(**changes):
        return predicted_bytes(TrainingSettings(**{"batch_size": 4} | changes), released, TEXT)

    assert predicted(gradient_checkpointing=True) < predicted() < predicted(batch_size=8)
    assert predicted() < predicted(precision="fp32")
    assert predicted(lora_r=129) - predicted(lora_r=128) > 24 * 4 * 2402 * (6 * 896 + 4864), "dropout's masks"
    here = predicted(precision="fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert predicted(precision="fp16") > here, "masks here, too"


@pytest.mark.parametrize(
    ("clips", "checkpointing", "lora_r", "prompt", "measured"),
    [
        (1, False, 64, 42, 6.13e9),
        (2, False, 64, 42, 9.10e9),
        (4, False, 64, 42, 15.25e9),
        (4, True, 64, 42, 4.52e9),
        (4, True, 16, 42, 4.30e9),
        (4, True, 64, 880, 4.83e9),
    ],
)
def test_the_prediction_is_what_an_h100_took(clips, checkpointing, lora_r, prompt, measured, released, monkeypatch):
    """As the driver counted it; `benchmarks/memory.py` measures it again."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)  # liger-kernel was installed there
    settings = TrainingSettings(batch_size=clips, gradient_checkpointing=checkpointing, lora_r=lora_r)
    assert predicted_bytes(settings, released, TextTokens(prompt, 126)) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(("stage", "measured"), [("zero2", 7.96e9), ("zero3_offload", 9.93e9)])
def test_the_prediction_is_what_an_h100_took_under_deepspeed(stage, measured, released, monkeypatch):
    """Likewise, a clip at a time."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    predicted = predicted_bytes(TrainingSettings(batch_size=1), released, TextTokens(42, 126), deepspeed=stage)
    assert predicted == pytest.approx(measured, rel=0.05)


def test_the_log_is_drawn(finished, tmp_path):
    drawn = plot_training(finished[1] / "log.jsonl", tmp_path)
    assert [path.name for path in drawn] == ["loss.svg", "grad_norm.svg", "learning_rate.svg"]
    assert all("<svg" in path.read_text() for path in drawn)


def test_training_all_weights_is_predicted_to_take_more_and_what_takes_less_is_named(released, monkeypatch):
    full = TrainingSettings(method="full", batch_size=4, gradient_checkpointing=True)
    predicted = {
        stage: predicted_bytes(full, released, TEXT, deepspeed=stage) for stage in (None, "zero2", "zero3_offload")
    }
    assert 2 * (predicted["zero3_offload"] - NCCL) < predicted[None] < predicted["zero2"] - NCCL
    assert predicted[None] > 16 * 494e6, "weights, gradients and two moments in float32"
    assert predicted_bytes(full, released, TEXT, processes=4, deepspeed="zero3") < predicted["zero2"] / 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    told = what_would_fit(full, Launch(1, "zero2"), released, TEXT, 11e9)
    assert told.startswith("set finetune={deepspeed: none} (")
    told = what_would_fit(full, Launch(1, None), released, TEXT, 8e9)
    assert told.startswith("set finetune={deepspeed: zero3_offload} (") and "{method: lora} (" in told


def test_a_base_of_four_bits_is_predicted_to_take_less_and_is_named(released):
    least = TrainingSettings(batch_size=1, gradient_accumulation_steps=4, gradient_checkpointing=True, lora_r=1)
    nf4, plain = (predicted_bytes(s, released, TEXT, on_gpu=False) for s in (replace(least, quantization="nf4"), least))
    assert plain - nf4 == pytest.approx((2 - 0.516) * 358e6, rel=0.01), "the decoder's matrices alone"
    told = what_would_fit(least, ONE, released, TEXT, predicted_bytes(least, released, TEXT, on_gpu=False) - 1)
    assert "quantization: nf4" in told and "pip install '.[nf4]'" in told
