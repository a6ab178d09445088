"""ZeRO in two processes: stopped, resumed by two and by one, and compared with one process without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import ROOT, SETTINGS

CASES = {
    "zero2": {"lora_dropout": 0.0, "deepspeed": "zero2"},
    "zero3": {"lora_dropout": 0.0, "deepspeed": "zero3"},
    "zero3_offload": {"method": "full", "save_total_limit": 2, "deepspeed": "zero3_offload"},
}


def launch(processes: int, requests: list[dict], folder: Path) -> None:
    """Run trainings in so many processes."""
    file = folder / f"for-{processes}.json"
    file.write_text(json.dumps(requests))
    script = [str(ROOT / "tests/training/several_trainings.py"), str(file)]
    call = f"run_processes({processes}, {script})"
    command = f"import sys; from mobilevideogpt.training.launch import run_processes; sys.exit({call})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", command], check=True, timeout=500, env=environment)


@pytest.fixture(scope="module")
def runs(project, tmp_path_factory):
    """The folders of all cases: ``<name>/2`` was stopped in two processes and ended in two, ``<name>/1`` in one."""
    folder = tmp_path_factory.mktemp("zero")
    shared = {"base": str(project.base), "features": str(project.store.folder)}
    shared |= {"train": project.train, "val": project.val}

    def requests(processes: int) -> list[dict]:
        return [
            {
                **shared,
                "settings": SETTINGS | changes | {"processes": processes},
                "run_folder": str(folder / name / str(processes)),
            }
            for name, changes in CASES.items()
        ]

    stopped = [str(folder / name / "1") for name in CASES]
    launch(2, [{**request, "stopped": copy} for request, copy in zip(requests(2), stopped, strict=True)], folder)
    launch(1, requests(1), folder)
    return folder


def weights(folder, changes):
    name = "model" if changes.get("method") == "full" else "adapter_model"
    return load_file(folder / f"adapter/{name}.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_what_two_processes_began_two_or_one_end_as_one_process_without_zero_does(name, runs, project, tmp_path):
    alone = project.finetune(tmp_path / "alone", **CASES[name] | {"deepspeed": "none"})
    expected = weights(tmp_path / "alone", CASES[name])
    for processes in (2, 1):
        folder = runs / name / str(processes)
        record = json.loads((folder / "train.json").read_text())
        assert (record["world_size"], record["deepspeed"]) == (processes, name)
        assert 2 <= record["resumed_from"] < record["steps"]
        assert record["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        found = weights(folder, CASES[name])
        assert found.keys() == expected.keys()
        for weight, tensor in expected.items():
            torch.testing.assert_close(found[weight], tensor, rtol=1e-3, atol=1e-4)
        assert not list(folder.glob(".*-universal")), "it was temporary"
