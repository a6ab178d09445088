"""A training on several nodes: here two launchers on one machine, started by a command that stands for ssh."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.nodes import check_nodes, node_commands
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.settings import TrainingSettings
from tests.training.test_launch import wait_for

SSH = '#!/bin/sh\nshift 4\nexec sh -c "$*"\n'  # after -o BatchMode=yes -- host
SUM = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = torch.tensor(float(os.environ["RANK"]) + 1)
dist.all_reduce(rank)
line = f"sum {rank.item():g} of {os.environ['WORLD_SIZE']} on node {os.environ['GROUP_RANK']}\\n"
os.write(1, line.encode())  # in one piece, as the other node writes there, too
dist.destroy_process_group()
"""
WAITS = """
import os, sys, time
from mobilevideogpt.processes import terminate_with_launcher
terminate_with_launcher()
time.sleep(300)
"""
FAILS_LATE_ON_ONE = "import os, sys, time; os.environ['RANK'] == '1' and (time.sleep(2), sys.exit(3))"
FAILS_ON_ONE = "import os, sys; os.environ['RANK'] == '1' and sys.exit(3)" + WAITS
PARENT = """
import sys
from mobilevideogpt.training.launch import run_on_nodes
from mobilevideogpt.training.plan import Launch
sys.exit(run_on_nodes(Launch(2, None, 2), ["{folder}/rank.py"], "{folder}/hosts"))
"""


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts a script on two nodes."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts").write_text("# ours\nlocalhost slots=8\nlocalhost\nanother\n")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    started = []

    def start(script: str) -> subprocess.Popen:
        (tmp_path / "rank.py").write_text(script)
        command = [sys.executable, "-c", PARENT.format(folder=tmp_path)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_two_nodes_exchange_tensors(start):
    process = start(SUM)
    assert sorted(process.communicate(timeout=120)[0].splitlines()) == ["sum 3 of 2 on node 0", "sum 3 of 2 on node 1"]
    assert process.returncode == 0


@pytest.mark.parametrize("script", [FAILS_ON_ONE, FAILS_LATE_ON_ONE])
def test_a_process_that_fails_on_a_node_ends_the_training_on_all(start, script):
    process = start(script)
    process.communicate(timeout=120)
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_start_of_the_training_ends_it_on_all_nodes(start, number):
    process = start(WAITS)
    family = wait_for(process.pid, 4)  # two launchers and their processes
    process.send_signal(number)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert process.wait(10) == (128 + number if number == signal.SIGTERM else -number)


def test_without_slurm_the_file_of_hosts_has_to_name_enough_of_them(tmp_path):
    with pytest.raises(InputError, match=r"finetune\.nodes: 2 nodes, but this is not a job of Slurm.*hostfile"):
        check_nodes(2, None, {})
    (tmp_path / "hosts").write_text("one\n\n# two\n")
    with pytest.raises(InputError, match=r"names 1 hosts, but finetune\.nodes is 2"):
        check_nodes(2, str(tmp_path / "hosts"))
    with pytest.raises(InputError, match=r"finetune\.hostfile: .*none cannot be read"):
        check_nodes(2, str(tmp_path / "none"))


def test_a_job_of_slurm_starts_a_launcher_on_each_node(tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    [command] = node_commands(Launch(8, "zero3", 2), ["finetune.py", "--log", "x"], None)
    assert command.words[0] == "srun" and not command.ends_with_stdin
    assert {"--nodes=2", "--ntasks=2", "--cpus-per-task=4", "--nnodes=2", "--nproc-per-node=4"} <= set(command.words)
    assert command.words[-4:] == ["--", "finetune.py", "--log", "x"]


def test_ssh_hands_on_no_tokens(tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("me@one\ntwo\n")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    commands = node_commands(Launch(2, None, 2), ["finetune.py"], str(tmp_path / "hosts"))
    texts = [" ".join(command.words) for command in commands]
    assert all("NCCL_DEBUG=INFO" in text and "secret" not in text for text in texts)
    assert all("--rdzv-endpoint=one:" in text for text in texts) and " -- two " in texts[1]


def test_the_rehearsal_of_a_node_has_as_many_clips_in_each_process():
    whole = TrainingSettings(effective_batch_size=16, processes=8, nodes=2, hostfile="hosts")
    one = whole.of_one_node()
    assert (one.effective_batch_size, one.processes, one.nodes, one.hostfile) == (8, 4, 1, None)
    fixed = TrainingSettings(batch_size=8, gradient_accumulation_steps=2, nodes=2).of_one_node()
    assert (fixed.batch_size, fixed.gradient_accumulation_steps, fixed.effective_batch_size) == (4, 2, 8)
    assert TrainingSettings().of_one_node() == TrainingSettings()


@pytest.mark.parametrize(("changes", "told"), [({"processes": 3}, "multiple of finetune.nodes"), ({}, "2 nodes")])
def test_nodes_that_cannot_share_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        TrainingSettings(effective_batch_size=3, nodes=2, **changes)
