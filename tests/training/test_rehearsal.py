"""The outcome of a rehearsal, and the cache of the last one that passed."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copytree

import pytest
import torch

from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training import rehearsal as module
from mobilevideogpt.training.memory import Step, TextTokens
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.preflight import EXAMPLE_SAMPLE
from mobilevideogpt.training.rehearsal import Measured, Outcome, Rehearsal, RehearsalCache, rehearse
from mobilevideogpt.training.rehearsal_worker import _is_out_of_memory, _train

MEASURED = Measured(5, 4, 3, 2, 1)
PASSED = Rehearsal(Outcome.OK, MEASURED)
NO_MEMORY = Rehearsal(Outcome.OUT_OF_MEMORY, message="OutOfMemoryError: tried 2 GiB")


@pytest.fixture
def step(project):
    return Step(project.settings(), Launch(1, None), project.base, TextTokens(64, 64), on_gpu=False)


def summary(status, reports, processes=1, stderr=""):
    return module._summary(subprocess.CompletedProcess([], status, "", stderr), reports, processes)


def test_the_process_that_needed_most_memory_counts():
    more = Rehearsal(Outcome.OK, replace(MEASURED, peak_bytes=9))
    assert summary(0, [PASSED, more], processes=2).measured == replace(more.measured, peak_bytes_of_each=[5, 9])


def test_lack_of_memory_in_one_process_is_the_outcome_whatever_the_others_report():
    other = Rehearsal(Outcome.FAILED, message="RuntimeError: connection reset")
    found = summary(1, [other, NO_MEMORY], processes=2)
    assert found.outcome is Outcome.OUT_OF_MEMORY and "failed: OutOfMemoryError: tried 2 GiB" in found.message
    assert summary(1, [other], processes=2).outcome is Outcome.FAILED


@pytest.mark.parametrize("status", [-9, 137])
def test_a_killed_process_most_likely_lacked_memory(status):
    found = summary(status, [])
    assert found.outcome is Outcome.OUT_OF_MEMORY and "killed by signal 9" in found.message


def test_a_process_that_ends_without_a_report_has_failed():
    found = summary(1, [], stderr="Traceback\nImportError: no such module\n")
    assert found.outcome is Outcome.FAILED and found.message.endswith("failed: ImportError: no such module")
    assert summary(0, [PASSED], processes=2).outcome is Outcome.FAILED


def test_errors_of_lacking_memory_are_recognised():
    assert _is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and _is_out_of_memory(MemoryError())
    assert _is_out_of_memory(RuntimeError("CUDA driver error: out of memory"))
    assert not _is_out_of_memory(RuntimeError("shape mismatch")) and not _is_out_of_memory(ValueError("out of memory"))


def test_a_rehearsal_validates_saves_and_meets_the_longest_text_again_after_the_shortest(project, tmp_path):
    longest, shortest = project.train[-1], project.train[0]
    request = {"settings": asdict(project.settings()), "model": project.paths.named, "encode": False}
    request |= {"longest": longest, "shortest": shortest, "folder": str(tmp_path), "deepspeed_configs": "config"}
    measured = _train(request)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4]
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [0, 2, 4]
    assert measured.checkpoint_bytes > measured.adapter_bytes > 0


def test_a_slow_rehearsal_times_out(step, project, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    found = rehearse(step, project.paths, EXAMPLE_SAMPLE, tmp_path)
    assert found.outcome is Outcome.TIMED_OUT and "took longer than 0.1 s" in found.message
    assert not list(tmp_path.glob(".rehearsal-*"))


@pytest.mark.slow
def test_an_error_is_reported_with_its_message(step, project, tmp_path):
    base = Path(copytree(project.base, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    found = rehearse(step, ModelPaths(str(base)), EXAMPLE_SAMPLE, tmp_path)
    assert found.outcome is Outcome.FAILED and "rehearsal failed: " in found.message
    assert found.measured is None and str(base) in found.message


def test_the_cache_has_the_result_of_an_equal_rehearsal_only(step, tmp_path):
    cache = RehearsalCache(tmp_path / "preflight.rehearsal.json", "base and code")
    key = cache.key(step, False, "config")
    assert cache.read(key) is None
    cache.write(key, MEASURED)
    assert cache.read(cache.key(step, False, "config")) == replace(PASSED, cached=True)
    others = [
        cache.key(step.with_settings(lora_r=8), False, "config"),
        cache.key(replace(step, text=TextTokens(64, 65)), False, "config"),
        cache.key(replace(step, launch=Launch(2, None)), False, "config"),
        cache.key(step, True, "config"),
        cache.key(step, False, "config", shortest=9),
        RehearsalCache(cache.path, "other code").key(step, False, "config"),
    ]
    assert len({key, *others}) == 7 and not any(map(cache.read, others))
    cache.path.write_text("{half")
    assert cache.read(key) is None
