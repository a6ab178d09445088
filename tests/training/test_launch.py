import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

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


def wait_for(pid: int, count: int) -> list[psutil.Process]:
    """The launchers and their processes, once they have started."""
    deadline = time.monotonic() + 60
    while len(family := psutil.Process(pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return family
