"""Facts about the machine that tests can know."""

import json
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pynvml
import pytest
import torch

from mobilevideogpt import machine
from mobilevideogpt.machine import library_versions

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")


def test_importing_the_module_imports_no_torch():
    code = "import sys, mobilevideogpt.machine; sys.exit(bool({'torch', 'pynvml'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def driver(monkeypatch):
    """A driver with one GPU, which this process and two others use."""
    processes = [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in ((machine.os.getpid(), 9), (1, 5))]
    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlSystemGetDriverVersion": "555.1",
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetHandleByUUID": "handle",
        "nvmlDeviceGetName": "H100",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(free=3, total=8),
        "nvmlDeviceGetComputeRunningProcesses": processes,
        "nvmlDeviceGetGraphicsRunningProcesses": [SimpleNamespace(pid=4_000_000_000, usedGpuMemory=None)],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *arguments, answer=answer: answer)


def test_the_driver_is_asked_for_gpus_and_for_who_else_uses_one(driver):
    assert machine.driver_gpus() == [machine.Gpu("H100", 3, 8)]
    assert machine.driver_version() == "555.1"
    assert machine.gpu_processes("abc") == [
        machine.GpuProcess(4_000_000_000, "unknown", None),
        machine.GpuProcess(1, psutil.Process(1).name(), 5),
    ]


def test_without_a_driver_there_is_a_reason_and_no_gpu(monkeypatch):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with pytest.raises(machine.DriverError, match="NVML"):
        machine.driver_gpus()
    assert machine.driver_version() is None and machine.gpu_processes("abc") == []


@without_gpu
def test_the_facts_of_a_machine_without_a_gpu_say_why(tmp_path):
    facts = machine.machine_facts()
    assert facts["gpus"] == [] and facts["why_no_gpu"] and facts["memory_bytes"] >= facts["memory_available_bytes"]
    assert json.loads(json.dumps(facts)) == facts
    assert machine.device_name().startswith("CPU (")
    assert 2 * machine.free_bytes_for_each(2) <= psutil.virtual_memory().total


def test_the_disk_of_a_folder_that_is_not_there_yet_is_its_parent_s(tmp_path):
    assert machine.nearest_folder(tmp_path / "new/run") == tmp_path
    assert machine.free_disk_bytes(tmp_path / "new/run") > 0


def test_missing_and_other_versions_of_required_packages_are_problems(monkeypatch):
    required = ["torch>=1", "numpy<1", "absent-distribution", "wandb; extra == 'wandb'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: required)
    numpy, missing = machine.unmet_requirements("mobilevideogpt")
    assert numpy.startswith("numpy is ") and numpy.endswith(", not <1")
    assert missing == "absent-distribution is not installed"


def test_versions_name_what_is_missing(monkeypatch):
    assert library_versions(["torch", "absent-distribution"])["absent-distribution"] == "none"
    assert {"python", "cuda", "torch", "peft"} <= machine.versions().keys()
