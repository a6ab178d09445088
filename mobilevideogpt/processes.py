"""Processes that end with their parent, and signals that reach them. Standard library and psutil only."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from mobilevideogpt.interruption import LAUNCHED_BY

ENDS_WITH_STDIN = "MOBILEVIDEOGPT_ENDS_WITH_STDIN"  # likewise: set where this one ends with its standard input
POLL_SECONDS = 1
_watched: set[int] = set()  # the processes with which this one ends
_caught: list[int] = []  # signals that were forwarded


def terminate_with_parent(parent: int | None = None) -> None:
    """Send this process SIGTERM once another process has ended, even if that one was killed.

    A thread polls. This works on every system and for any ancestor, unlike Linux's parent-death signal.

    Args:
        parent: The process to watch; the immediate parent by default.
    """
    watched = os.getppid() if parent is None else parent
    _watched.add(watched)
    threading.Thread(target=_terminate_after, args=(watched,), daemon=True).start()


def work_for(parent: int) -> None:
    """Make this process a worker of another one: it ends with that one, which alone handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate_with_parent(parent)


def terminate_with_launcher() -> None:
    """Send this process SIGTERM once the process that launched it has ended, at once if it has ended before.

    That is the one that `LAUNCHED_BY` names, else the Snakemake of which this is a job. Without either, this does
    nothing.
    """
    named = os.environ.get(LAUNCHED_BY)
    if launcher := int(named) if named else ancestor_running("snakemake"):
        terminate_with_parent(launcher)


def terminate_with_stdin() -> None:
    """Send this process SIGTERM at the end of its standard input, where `ENDS_WITH_STDIN` says so.

    A process that ssh started gets no signal when its caller is killed or interrupted, but the end of what it reads.
    """
    if os.environ.pop(ENDS_WITH_STDIN, None):
        threading.Thread(target=_terminate_after_stdin, daemon=True).start()


def _terminate_after_stdin() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def exit_with_launcher() -> None:
    """As `terminate_with_launcher`, but SIGTERM is `SystemExit`: temporary files are deleted and child processes end.

    Does nothing in a process that ends with another one already.
    """
    if not _watched:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        terminate_with_launcher()


def _terminate_after(parent: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def ancestor_running(program: str) -> int | None:
    """Return the PID of the nearest ancestor that runs ``program``, directly or through Python; None without one."""
    return next((process.pid for process in psutil.Process().parents() if _runs(process, program)), None)


def _runs(process: psutil.Process, program: str) -> bool:
    try:
        words = [os.path.basename(word) for word in process.cmdline()[:3]]
    except psutil.Error:  # it has ended, or it belongs to another user
        return False
    return words[:1] == [program] or (program in words and words[0].startswith("python"))


def forward_signals(to_command: str) -> None:
    """Forward SIGINT and SIGTERM to those descendants of this process whose command is ``python <to_command> ...``.

    The handlers that this process had run afterwards. A descendant may get a signal twice, as a terminal sends Ctrl-C
    to all of them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _forwarding(to_command, signal.getsignal(number)))


def was_signalled() -> bool:
    """Whether `forward_signals` has caught a signal."""
    return bool(_caught)


def _forwarding(to_command: str, then: Callable | int | None) -> Callable:
    def handler(number, frame):
        _caught.append(number)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if to_command in process.cmdline()[1:2]:
                    process.send_signal(number)
        if callable(then):
            then(number, frame)
        elif then == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    return handler
