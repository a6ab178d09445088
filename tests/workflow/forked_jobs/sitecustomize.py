"""Imported by each Python process below Snakemake, see `tests.workflow.fork_server`: a job asks for a forked process.

It passes on what it was called with, waits for the end, and ends likewise. Standard library only.
"""

import array
import json
import os
import signal
import socket
import sys

SOCKET = "FORKED_JOBS"  # environment variable
MODULES = ("mobilevideogpt.training.rehearsal_worker",)


def _call() -> dict | None:
    """Return the script or module and its arguments, if a forked process may run it."""
    words = sys.orig_argv[1:]
    if len(words) > 1 and words[0] == "-m" and words[1] in MODULES:
        return {"module": words[1], "arguments": words[2:]}
    if words and ("/.snakemake/scripts/" in words[0] or "workflow_scripts/" in words[0]):
        return {"script": os.path.abspath(words[0]), "arguments": words}
    return None


def _run(call: dict) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        call |= {"folder": os.getcwd(), "environment": dict(os.environ)}
        files = array.array("i", [0, 1, 2])
        connection.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        connection.sendall(json.dumps(call).encode() + b"\n")
        with connection.makefile() as answers:
            pid = int(answers.readline())
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, frame: os.kill(pid, number))
            status = answers.readline()
    os._exit(int(status) % 256 if status else 1)


if os.environ.get(SOCKET) and (called := _call()):
    _run(called)
