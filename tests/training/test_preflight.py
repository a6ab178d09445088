"""The checks of the machine before the fine-tuning."""

import importlib.util
import json
import re
from pathlib import Path
from shutil import copytree

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training import preflight as module
from mobilevideogpt.training.preflight import FeatureFiles, is_supported, preflight
from mobilevideogpt.training.rehearsal import Measured, Outcome, Rehearsal, RehearsalCache
from mobilevideogpt.training.rehearsal_process import RehearsalProcess

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


@without_gpu
def test_two_rehearsed_steps_measure_memory_and_disk_for_an_automatic_batch(project, tmp_path):
    with RehearsalProcess() as ready:
        report = preflight(
            project.settings(batch_size="auto", effective_batch_size=6),
            model=project.paths,
            run_folder=tmp_path / "new",
            allow_cpu=True,
            min_free_disk_gb=0,
            train=project.train,
            clips={"train": 5, "val": 2, "test": 0},
            features=FeatureFiles(),
            ready=ready,
        )
        assert not ready.is_waiting
    assert report["ok"] and report["device"] == "cpu", report["checks"]
    assert report["rehearsed_bytes"] == pytest.approx(report["predicted_bytes"], rel=0.5)
    assert report["batch"] == {"effective": 6, "micro": 6, "accumulation": 1, "gradient_checkpointing": False}
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert details["data"] == "5 clips in train, 2 clips in val, 0 clips in test"
    assert re.match(
        r"0\.00 GB for the features of 7 clips, 0\.0\d GB for ", details["disk for features and checkpoints"]
    )
    assert json.loads(json.dumps(report)) == report
    assert not list(tmp_path.glob(".rehearsal-*"))


def test_an_empty_split_to_train_on_is_a_check_that_fails(project, tmp_path):
    options = {"model": project.paths, "run_folder": tmp_path, "allow_cpu": True, "min_free_disk_gb": 0}
    report = preflight(project.settings(), **options, train=[])
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["data"]


@without_gpu
def test_without_a_gpu_nothing_is_rehearsed_unless_allowed(project, tmp_path):
    settings = project.settings()
    report = preflight(settings, model=project.paths, run_folder=tmp_path, allow_cpu=False, min_free_disk_gb=1e9)
    assert not report["ok"] and report["rehearsed_bytes"] is None
    remedies = {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}
    assert "preflight.allow_cpu" in remedies["device"] and "preflight.min_free_disk_gb" in remedies["disk"]


@without_gpu
def test_what_deepspeed_cannot_do_is_a_check_that_fails(project, tmp_path):
    settings = project.settings(precision="fp16", deepspeed="zero2")
    report = preflight(settings, model=project.paths, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    failed = {check["name"]: check["detail"] for check in report["checks"] if not check["ok"]}
    assert failed.keys() == {"precision", "processes"} and "zero2" in failed["processes"]


@without_gpu
def test_a_library_to_report_to_that_is_not_installed_is_a_check_that_fails(project, tmp_path, monkeypatch):
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else installed(name))
    settings = project.settings(report_to=["tensorboard", "wandb"])
    report = preflight(settings, model=project.paths, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    failed = {check["name"]: check["remedy"] for check in report["checks"] if not check["ok"]}
    assert failed.keys() == {"report_to"} and "pip install wandb" in failed["report_to"]
    with pytest.raises(InputError, match="pip install wandb"):
        project.finetune(tmp_path / "run", report_to=["wandb"])


@without_gpu
def test_a_rehearsal_that_fails_is_reported_with_its_reason(project, tmp_path):
    settings = project.settings()
    base = Path(copytree(project.base, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    (tmp_path / ".rehearsal-abc").mkdir()  # of a killed one
    report = preflight(settings, model=ModelPaths(str(base)), run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    assert not report["ok"] and "the rehearsal failed" in report["checks"][-1]["detail"]
    assert not list(tmp_path.glob(".rehearsal-*"))


@pytest.fixture
def rehearsed(monkeypatch):
    """Replaces the rehearsal by given results, and lists the micro-batches that were rehearsed."""
    micro_batches = []

    def use(*results):
        remaining = list(results)

        def rehearse(step, *arguments, **options):
            micro_batches.append(step.micro_batch)
            return remaining.pop(0)

        monkeypatch.setattr(module, "rehearse", rehearse)
        return micro_batches

    return use


PASSED = Rehearsal(Outcome.OK, Measured(1000, 900, 10, 10, 10))


def run(project, tmp_path, cache=None, **settings):
    options = {"model": project.paths, "run_folder": tmp_path, "allow_cpu": True, "min_free_disk_gb": 0}
    report = preflight(project.settings(**settings), **options, cache=cache)
    return report, {check["name"]: check for check in report["checks"]}


@without_gpu
def test_an_automatic_batch_shrinks_while_the_memory_is_too_small(project, tmp_path, rehearsed):
    no_memory = Rehearsal(Outcome.OUT_OF_MEMORY, message="the rehearsal was killed")
    tried = rehearsed(no_memory, no_memory, PASSED)
    report, _ = run(project, tmp_path, batch_size="auto", effective_batch_size=4)
    assert report["ok"] and tried == [4, 2, 1] and report["batch"]["micro"] == 1
    tried = rehearsed(no_memory)
    report, checks = run(project, tmp_path, batch_size=4)
    assert not report["ok"] and tried[3:] == [4], "a number is not changed"
    assert "the rehearsal was killed" in checks["memory"]["detail"] and "set finetune=" in checks["memory"]["remedy"]


@without_gpu
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_other_failures_do_not_shrink_the_batch(outcome, project, tmp_path, rehearsed):
    tried = rehearsed(Rehearsal(outcome, message="a line with out of memory"))
    report, checks = run(project, tmp_path, batch_size="auto", effective_batch_size=4)
    assert not report["ok"] and tried == [4] and "log of this rule" in checks["memory"]["remedy"]


@without_gpu
def test_a_rehearsal_that_passed_is_used_again_and_one_that_failed_is_not(project, tmp_path, rehearsed):
    cache = RehearsalCache(tmp_path / "preflight.rehearsal.json", "inputs")
    tried = rehearsed(Rehearsal(Outcome.FAILED, message="failed"), PASSED)
    assert not run(project, tmp_path, cache)[0]["ok"] and not cache.path.exists()
    report, checks = run(project, tmp_path, cache)
    assert report["ok"] and len(tried) == 2 and "before" not in checks["memory"]["detail"]
    again, checks = run(project, tmp_path, cache)
    assert len(tried) == 2 and checks["memory"]["detail"].startswith("rehearsed 0.00 GB before, predicted")
    assert again["rehearsed_bytes"] == report["rehearsed_bytes"] == 1000
    with pytest.raises(IndexError):  # of other settings: rehearsed again
        run(project, tmp_path, cache, lora_r=8)


def test_a_build_of_torch_supports_the_gpus_that_its_kernels_or_its_code_run_on():
    assert is_supported("9.0", ["sm_80", "sm_90a"]) and is_supported("8.6", ["sm_80"])
    assert not is_supported("7.5", ["sm_80"]) and not is_supported("9.0", ["sm_86"])
    assert is_supported("12.0", ["sm_90", "compute_90"]) and not is_supported("8.0", ["compute_90"])
