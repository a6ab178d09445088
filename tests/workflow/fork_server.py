"""Snakemake and its jobs in processes that are forked from one that has imported their libraries.

A call of Snakemake takes two seconds less, and a job that trains or answers five. Run as a program, it reads a JSON
object a line, the call of Snakemake, and prints the process's PID and, at its end, its status. Jobs ask by a socket,
see `forked_jobs/sitecustomize.py`. Each process imports the project's own modules itself.
"""

import array
import atexit
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

JOBS = Path(__file__).with_name("forked_jobs")  # in front of the import path of Snakemake and its jobs
SOCKET = "FORKED_JOBS"  # environment variable


class ForkServer:
    """Starts the programs when they are first needed."""

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._jobs: subprocess.Popen | None = None
        self._socket = ""

    def _start(self) -> subprocess.Popen:
        # A process with threads cannot be forked.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": ""}
        self._socket = str(Path(tempfile.mkdtemp(prefix="forked-"), "jobs"))
        pipe = subprocess.PIPE
        self._jobs = subprocess.Popen(
            [sys.executable, __file__, self._socket], stdout=pipe, stdin=pipe, env=environment
        )
        assert self._jobs.stdout
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        self._jobs.stdout.readline()  # it listens
        return self._process

    def call(self, arguments: list[str], folder: Path, environment: dict[str, str], output: Path) -> int:
        """Run Snakemake in a session of its own and return its status; output goes to ``output/out`` and ``err``."""
        process = self._process or self._start()
        assert process.stdin and process.stdout
        imports = f"{JOBS}{os.pathsep}{environment['PYTHONPATH']}"
        environment = environment | {"PYTHONPATH": imports, SOCKET: self._socket}
        call = {"arguments": arguments, "folder": str(folder), "environment": environment, "output": str(output)}
        print(json.dumps(call), file=process.stdin, flush=True)
        pid = int(process.stdout.readline())
        try:
            return int(process.stdout.readline())
        except BaseException:  # a test's time is over
            os.killpg(pid, 9)
            process.kill()
            self._process = None
            raise


def _serve() -> None:
    import pandas  # noqa: F401  # by Snakemake, to compare parameters
    from snakemake import cli, report  # noqa: F401

    for line in sys.stdin:
        call = json.loads(line)
        if pid := os.fork():
            print(pid, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            os.setsid()
            for number, name in enumerate(("out", "err"), start=1):
                os.dup2(os.open(Path(call["output"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _become(call, call["folder"])
            spec = find_spec("snakemake")
            assert spec and spec.origin
            sys.argv = [str(Path(spec.origin).with_name("__main__.py")), *call["arguments"]]
            cli.main()


def _serve_jobs(path: str) -> None:
    """Fork a process for each job that asks, and one that waits for it, as long as the caller runs."""
    import accelerate  # noqa: F401
    import av  # noqa: F401
    import cv2  # noqa: F401
    import peft  # noqa: F401
    import scipy.stats  # noqa: F401
    import transformers.models.clip.modeling_clip
    import transformers.models.qwen2.modeling_qwen2
    import transformers.trainer  # noqa: F401

    gc.collect()
    gc.freeze()  # else each child's collector would copy all pages
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    print("ready", flush=True)
    parent = os.getppid()
    listener.settimeout(5)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run_job(connection)
        connection.close()
    shutil.rmtree(os.path.dirname(path))


def _run_job(connection: socket.socket) -> None:
    files = array.array("i")
    _, passed, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * files.itemsize))
    files.frombytes(passed[0][2])
    with connection.makefile() as calls:
        call = json.loads(calls.readline())
    if pid := os.fork():
        connection.sendall(f"{pid}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(f"{128 - status if status < 0 else status}\n".encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
    if "module" in call:
        _become(call, call["folder"])
        sys.argv = [call["module"], *call["arguments"]]
        _run_and_exit(lambda: runpy.run_module(call["module"], run_name="__main__", alter_sys=True))
    else:
        _become(call, os.path.dirname(call["script"]))
        sys.argv = call["arguments"]
        _run_and_exit(lambda: runpy.run_path(call["script"], run_name="__main__"))


def _run_and_exit(run: Callable) -> None:
    """End as Python does, but without freeing each module, which takes a second where torch is imported."""
    status: object = 0
    try:
        run()
    except SystemExit as error:
        status = error.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if not isinstance(status, int | None):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((status or 0) % 256)


def _become(call: dict, first: str) -> None:
    """Turn this process into that of ``python`` as it was called; ``first`` is the first folder of the import path."""
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    imports = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path]
    sys.path[0:1] = [first, *imports]


if __name__ == "__main__":
    _serve_jobs(sys.argv[1]) if len(sys.argv) > 1 else _serve()
