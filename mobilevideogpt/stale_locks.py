"""Snakemake's locks after a kill. Standard library and psutil only.

A killed Snakemake leaves its lock files behind, and they do not name its process. So a record beside them does.
Snakemake deletes its folder of locks as a whole, the records with it.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from mobilevideogpt.files import read_json, write_json

LOCKS = Path(".snakemake/locks")
CALL_VARIABLE = "MOBILEVIDEOGPT_CALL"  # environment variable of all processes of one call of Snakemake
WAIT_SECONDS = 60  # for the jobs of a killed Snakemake, which end by themselves: a training saves a checkpoint


@dataclass(frozen=True)
class Machine:
    """Where process numbers mean the same: host, boot, and on Linux the namespace that a container has of its own."""

    host: str
    node: int
    user: int
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> "Machine":
        """Return that of this process."""
        boot, namespace = "", ""
        with suppress(OSError):  # other systems than Linux
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            namespace = os.readlink("/proc/self/ns/pid")
        node = uuid.getnode()
        is_random = bool(node >> 40 & 1)  # there is no network interface
        return cls(socket.gethostname(), 0 if is_random else node, os.getuid(), boot, namespace)

    def has_ended(self, pid: int, command: list[str]) -> bool:
        """Whether a process of this machine has certainly ended, as far as this process can see.

        The start time of a process is not compared: it moves when the clock is set.
        """
        here = Machine.here()
        if (self.host, self.node, self.user) != (here.host, here.node, here.user):
            return False
        if self.boot != here.boot:
            return bool(self.boot and here.boot)
        if self.namespace != here.namespace:
            return False
        if pid == os.getpid():  # that of an earlier process: this one has no lock yet
            return True
        try:
            process = psutil.Process(pid)
            return process.status() == psutil.STATUS_ZOMBIE or process.cmdline() != command
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


def record_lock_owner(lock_files: Iterable[str | Path]) -> None:
    """Write a record of this process beside the lock files that it has just written."""
    locks = {str(Path(file).resolve()): _identity(Path(file)) for file in lock_files}
    if not locks:
        return
    record = {
        "machine": asdict(Machine.here()),
        "pid": os.getpid(),
        "command": psutil.Process().cmdline(),
        "call": os.environ.get(CALL_VARIABLE, ""),
        "locks": locks,
    }
    folder = Path(next(iter(locks))).parent
    write_json(record, folder / f"{uuid.uuid4().hex}.owner.json")


def remove_stale_locks(folder: Path = LOCKS, wait_seconds: float = WAIT_SECONDS) -> list[str]:
    """Remove the lock files whose Snakemake, and whose jobs, have ended on this machine.

    To be called before this process has a lock. A lock of another host, user or container stays, and one without a
    record. Of several processes that call this at a time, one removes a lock.

    Returns:
        A notice for each killed Snakemake.
    """
    notices = []
    for file in sorted(folder.glob("*.owner.json")):
        try:
            record = read_json(file)
            machine, pid, locks = Machine(**record["machine"]), record["pid"], dict(record["locks"])
            command, call = record["command"], record["call"]
        except (ValueError, KeyError, TypeError):  # it is being deleted, or it is not one of this version
            continue
        if not machine.has_ended(pid, command):
            continue
        if remaining := _jobs_after(call, wait_seconds):
            notices.append(f"Snakemake (process {pid}) was killed, but its jobs still run: {remaining}; end them")
            continue
        claimed = file.with_suffix(".claimed")
        try:
            file.rename(claimed)
        except OSError:  # another process was faster
            continue
        removed = [lock for lock, identity in locks.items() if _identity(Path(lock)) == identity]
        for lock in removed:
            Path(lock).unlink(missing_ok=True)
        claimed.unlink(missing_ok=True)
        if removed:
            notices.append(f"Snakemake (process {pid}) was killed and left a lock, which is removed.")
    return notices


def _identity(file: Path) -> list[int]:
    try:
        status = file.stat()
    except OSError:
        return []
    return [status.st_ino, status.st_mtime_ns, status.st_size]


def _jobs_after(call: str, seconds: float) -> str:
    """Wait until the processes of a call have ended; return the numbers of those that have not."""
    deadline = time.monotonic() + seconds
    while found := _processes_of(call):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return ", ".join(map(str, found))


def _processes_of(call: str) -> list[int]:
    found = []
    for process in psutil.process_iter() if call else ():
        with suppress(psutil.Error):
            if process.environ().get(CALL_VARIABLE) == call and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return sorted(set(found) - {os.getpid()})
