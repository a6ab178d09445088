import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from torch import distributed

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.launch import leaving_process_group

RANK = """
import time
from mobilevideogpt.processes import terminate_with_launcher
terminate_with_launcher()
time.sleep(60)
"""
PARENT = """
import sys
from mobilevideogpt.training.launch import run_processes
sys.exit(run_processes(2, ['{script}']))
"""


@pytest.mark.parametrize("killed", ["parent", "launcher"])
def test_no_training_process_outlives_a_killed_launcher_or_its_parent(killed, tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(script=script)])
    try:
        family = wait_for(parent.pid, 3)
        os.kill(parent.pid if killed == "parent" else family[0].pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive
    finally:
        parent.kill()
        parent.wait()


def test_a_process_that_is_killed_ends_the_others_and_is_named(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text("import os, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); time.sleep(60)")
    command = [sys.executable, "-c", PARENT.format(script=script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGKILL
    assert "process 1 was killed by signal 9" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("end", "left"), [(None, True), (SystemExit(143), True), (InputError("wrong"), False)])
def test_gloo_s_group_ends_with_the_work_of_a_process_unless_that_fails(end, left, tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with suppress(SystemExit, InputError), leaving_process_group():
            if end:
                raise end
        assert distributed.is_initialized() is not left
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def wait_for(pid: int, count: int) -> list[psutil.Process]:
    """The launchers and their processes, once they have started."""
    deadline = time.monotonic() + 60
    while len(family := psutil.Process(pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return family
