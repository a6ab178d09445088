"""Snakemake in processes that are forked from one that has imported it: two seconds less for each call.

Run as a program, it reads a JSON object a line, the call, and prints the process's PID and, at its end, its status.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


class ForkServer:
    """Starts the program when it is first needed."""

    def __init__(self):
        self._process: subprocess.Popen | None = None

    def call(self, arguments: list[str], folder: Path, environment: dict[str, str], output: Path) -> int:
        """Run Snakemake in a session of its own and return its status; output goes to ``output/out`` and ``err``."""
        if self._process is None:
            command = [sys.executable, __file__]
            one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a process with threads cannot be forked
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=one_thread)
        process = self._process
        assert process.stdin and process.stdout
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
            _become(call)
            cli.main()


def _become(call: dict) -> None:
    """Turn this process into that of ``python -m snakemake`` in the folder of the call."""
    os.setsid()
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    for number, name in enumerate(("out", "err"), start=1):
        file = os.open(Path(call["output"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    imports = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path]
    sys.path[0:1] = [call["folder"], *imports]
    spec = find_spec("snakemake")
    assert spec and spec.origin
    sys.argv = [str(Path(spec.origin).with_name("__main__.py")), *call["arguments"]]


if __name__ == "__main__":
    _serve()
