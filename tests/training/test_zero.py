"""ZeRO in two processes: stopped, resumed, and compared with one process."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from mobilevideogpt.training.launch import launcher_command
from tests.training.conftest import ROOT, SETTINGS

CASES = {
    "zero2": {"lora_dropout": 0.0, "deepspeed": "zero2"},
    "zero3": {"lora_dropout": 0.0, "deepspeed": "zero3"},
    "zero3_offload": {"method": "full", "save_total_limit": 2, "deepspeed": "zero3_offload"},
}


@pytest.fixture(scope="module")
def runs(project, tmp_path_factory):
    """The folders of all cases, after one launch of two processes."""
    folder = tmp_path_factory.mktemp("zero")
    shared = {"base": str(project.base), "features": str(project.store.folder)}
    shared |= {"train": project.train, "val": project.val}
    requests = [
        {**shared, "settings": SETTINGS | changes | {"processes": 2}, "run_folder": str(folder / name)}
        for name, changes in CASES.items()
    ]
    (folder / "requests.json").write_text(json.dumps(requests))
    command = launcher_command(2, [str(ROOT / "tests/training/two_processes.py"), str(folder / "requests.json")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, timeout=500, env=environment)
    return folder


def weights(folder, changes):
    name = "model" if changes.get("method") == "full" else "adapter_model"
    return load_file(folder / f"adapter/{name}.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_two_processes_stop_go_on_and_learn_what_one_does(name, runs, project, tmp_path):
    alone = project.finetune(tmp_path / "alone", **CASES[name] | {"deepspeed": "none"})
    record = json.loads((runs / name / "train.json").read_text())
    assert (record["world_size"], record["deepspeed"]) == (2, name)
    assert 2 <= record["resumed_from"] < record["steps"]
    assert record["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    together, expected = (weights(folder, CASES[name]) for folder in (runs / name, tmp_path / "alone"))
    assert together.keys() == expected.keys()
    for weight, tensor in expected.items():
        torch.testing.assert_close(together[weight], tensor, rtol=1e-3, atol=1e-4)
