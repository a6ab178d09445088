"""Snakemake's locks after a kill."""

import os
import signal
import subprocess
import sys

import pytest

from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.stale_locks import CALL_VARIABLE, Machine, record_lock_owner, remove_stale_locks

OWNER = """
import sys, time
from mobilevideogpt.stale_locks import record_lock_owner
record_lock_owner(sys.argv[1:])
print("ready", flush=True)
time.sleep(15)
"""


@pytest.fixture
def locks(tmp_path):
    folder = tmp_path / "locks"
    folder.mkdir()
    for name in ("0.input.lock", "0.output.lock"):
        (folder / name).write_text("a file\n")
    return folder


@pytest.fixture
def owner(locks):
    """A process that has the locks, and its record."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, *map(str, locks.iterdir())],
        stdout=subprocess.PIPE,
        env={**os.environ, CALL_VARIABLE: "the call"},
    )
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(locks):
    return sorted(path.name for path in locks.iterdir())


def change(locks, **values):
    [record] = locks.glob("*.owner.json")
    write_json(read_json(record) | values, record)


def test_the_lock_of_a_killed_process_is_removed_with_a_notice(locks, owner):
    kill(owner)
    assert remove_stale_locks(locks) == [
        f"Snakemake (process {owner.pid}) was killed and left a lock, which is removed."
    ]
    assert names(locks) == []
    assert remove_stale_locks(locks) == [] == remove_stale_locks(locks / "missing")


def test_the_lock_of_a_living_process_stays(locks, owner):
    assert remove_stale_locks(locks) == [] and len(names(locks)) == 3


def test_a_number_that_another_command_has_by_now_is_not_the_owner(locks, owner):
    change(locks, command=["snakemake", "--cores", "1"])
    assert len(remove_stale_locks(locks)) == 1


@pytest.mark.parametrize("name", ["host", "node", "user", "namespace"])
def test_the_lock_of_another_machine_stays(name, locks, owner):
    kill(owner)
    machine = vars(Machine.here())
    change(locks, machine=machine | {name: "other" if isinstance(machine[name], str) else 1234})
    assert remove_stale_locks(locks) == [] and len(names(locks)) == 3


def test_the_lock_of_before_the_machine_was_started_is_removed(locks, owner):
    if not Machine.here().boot:
        pytest.skip("only Linux tells when it was started")
    change(locks, machine=vars(Machine.here()) | {"boot": "before"})
    assert len(remove_stale_locks(locks)) == 1 and names(locks) == []


def test_a_lock_that_another_snakemake_took_since_stays(locks, owner):
    kill(owner)
    os.utime(locks / "0.input.lock", ns=(1, 1))
    (locks / "1.input.lock").touch()
    assert len(remove_stale_locks(locks)) == 1
    assert names(locks) == ["0.input.lock", "1.input.lock"]


def test_a_lock_stays_while_a_job_of_its_call_runs(locks, owner):
    command = [sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"]
    job = subprocess.Popen(command, env={**os.environ, CALL_VARIABLE: "the call"}, stdout=subprocess.PIPE)
    assert job.stdout
    job.stdout.readline()
    kill(owner)
    [notice] = remove_stale_locks(locks, wait_seconds=0)
    assert f"its jobs still run: {job.pid}; end them" in notice and len(names(locks)) == 3
    kill(job)
    assert "is removed" in remove_stale_locks(locks)[0]
    job.communicate()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"machine": 1, "pid": 1, "locks": {}, "command": [], "call": ""}']
)
def test_a_malformed_record_removes_nothing(content, locks):
    (locks / "x.owner.json").write_text(content)
    assert remove_stale_locks(locks) == [] and len(names(locks)) == 3


def test_without_a_lock_there_is_no_record(tmp_path):
    record_lock_owner([])
    assert not list(tmp_path.iterdir())
