"""Processes that end with their parent, and forwarded signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mobilevideogpt.processes import LAUNCHED_BY, ancestor_running

CHILD = "import time; from mobilevideogpt.processes import terminate_with_parent; terminate_with_parent({parent}); "
CHILD += "print('ready', flush=True); time.sleep(60)"
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
FORWARDER = """
import signal, subprocess, sys, time
from mobilevideogpt.processes import forward_signals
signal.signal(signal.SIGTERM, lambda *_: print("own handler", flush=True))
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
forward_signals(sys.argv[1])
children = [subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) for script in sys.argv[1:]]
for child in children:
    child.stdout.readline()
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""
READY = "import time; print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_its_parent_however_that_one_ends(number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD.format(parent="")], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(number)
    parent.communicate()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive


def test_a_process_ends_at_once_if_the_one_that_it_watches_has_ended_before():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(parent=ended.pid)], stdout=subprocess.DEVNULL)
    assert child.wait(timeout=60) == -signal.SIGTERM


def test_a_process_keeps_running_while_its_parent_does():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD.format(parent="")], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(1.5)
    assert child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=60)


def test_the_nearest_ancestor_that_runs_a_program_is_found(tmp_path):
    (tmp_path / "program").write_text(
        "import subprocess, sys\n"
        "code = 'from mobilevideogpt.processes import ancestor_running; print(ancestor_running(\"program\"))'\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    outer = subprocess.Popen([sys.executable, tmp_path / "program"], stdout=subprocess.PIPE, text=True)
    assert outer.communicate()[0] == f"{outer.pid}\n"
    assert ancestor_running("program") is None


def test_signals_are_forwarded_to_the_named_command_alone_and_the_handler_before_runs_too(tmp_path):
    for name in ("training.py", "other.py"):
        (tmp_path / name).write_text(READY)
    scripts = [str(tmp_path / "training.py"), str(tmp_path / "other.py")]
    parent = subprocess.Popen([sys.executable, "-c", FORWARDER, *scripts], stdout=subprocess.PIPE, text=True)
    training, other = (psutil.Process(int(pid)) for pid in parent.stdout.readline().split())
    try:
        os.kill(parent.pid, signal.SIGTERM)
        assert parent.stdout.readline() == "own handler\n"
        deadline = time.monotonic() + 60
        while training.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert other.status() != psutil.STATUS_ZOMBIE and parent.poll() is None
        os.kill(parent.pid, signal.SIGINT)  # without a handler of its own, this ends the parent
        assert parent.wait(timeout=60) != 0
    finally:
        other.kill()
        parent.kill()
        parent.communicate()


JOB = """
import os, sys, tempfile, time
from mobilevideogpt.log import log_to
log_to(sys.argv[1])
with tempfile.TemporaryDirectory(dir=sys.argv[2]):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("ended", ["after", "before"])
def test_a_script_ends_with_its_snakemake_and_deletes_its_temporary_files(ended, tmp_path):
    snakemake = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if ended == "before":
        snakemake.kill()
        snakemake.wait()
    (tmp_path / "places").mkdir()
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, tmp_path / "log", tmp_path / "places"],
        env={**os.environ, LAUNCHED_BY: str(snakemake.pid)},
        stdout=subprocess.PIPE,
    )
    assert job.stdout
    job.stdout.readline()
    snakemake.kill()
    snakemake.wait()
    assert job.wait(timeout=60) == 128 + signal.SIGTERM
    assert not list((tmp_path / "places").iterdir())
    job.communicate()


def test_every_script_of_a_rule_ends_with_its_snakemake():
    scripts = sorted((Path(__file__).parents[1] / "workflow_scripts").glob("*.py"))
    assert [path.name for path in scripts if "log_to(" not in path.read_text()] == []


def test_a_job_that_is_interrupted_while_it_imports_shows_no_traceback():
    words = [sys.executable, "-c", "import mobilevideogpt; raise KeyboardInterrupt"]
    job = subprocess.run(words, capture_output=True, text=True, env={**os.environ, LAUNCHED_BY: "1"})
    assert (job.returncode, job.stderr) == (-signal.SIGINT, "")
    environment = {name: value for name, value in os.environ.items() if name != LAUNCHED_BY}
    assert "KeyboardInterrupt" in subprocess.run(words, capture_output=True, text=True, env=environment).stderr
    words[-1] = "import mobilevideogpt; print(unknown)"
    job = subprocess.run(words, capture_output=True, text=True, env={**os.environ, LAUNCHED_BY: "1"})
    assert "NameError" in job.stderr
