import json

import pytest
import torch

from mobilevideogpt.training.arguments import TrainingSettings
from mobilevideogpt.training.memory import predicted_bytes
from mobilevideogpt.training.plots import plot_training
from mobilevideogpt.training.preflight import preflight

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


@without_gpu
def test_two_rehearsed_steps_tell_the_memory(project, tmp_path):
    settings = project.settings()
    report = preflight(settings, base=project.base, run_folder=tmp_path / "new", allow_cpu=True, min_free_disk_gb=0)
    assert report["ok"] and report["device"] == "cpu", report["checks"]
    assert report["rehearsed_bytes"] == pytest.approx(report["predicted_bytes"], rel=0.5)
    assert json.loads(json.dumps(report)) == report


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
def test_a_rehearsal_that_fails_is_told_with_its_reason(project, tmp_path):
    settings = project.settings()
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text((project.base / "config.json").read_text())
    report = preflight(settings, base=base, run_folder=tmp_path, allow_cpu=True, min_free_disk_gb=0)
    assert not report["ok"] and "rehearsal of two steps failed" in report["checks"][-1]["detail"]


def test_what_takes_more_memory_is_predicted_to(tmp_path):
    (tmp_path / "config.json").write_text("{}")  # the released geometry

    def predicted(**changes):
        return predicted_bytes(TrainingSettings(**changes), tmp_path, 128)

    assert predicted() < predicted(batch_size=8) < predicted(batch_size=8, gradient_checkpointing=False)
    assert predicted() < predicted(precision="fp32")


def test_the_log_is_drawn(finished, tmp_path):
    drawn = plot_training(finished[1] / "log.jsonl", tmp_path)
    assert [path.name for path in drawn] == ["loss.svg", "grad_norm.svg", "learning_rate.svg"]
    assert all("<svg" in path.read_text() for path in drawn)
