"""The process of a rehearsal, which loads its libraries while it is not known yet what to rehearse.

Standard library only, so that it can start before anything else is loaded.
"""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager

from mobilevideogpt.interruption import LAUNCHED_BY

WORKER = "mobilevideogpt.training.rehearsal_worker"


class RehearsalProcess(AbstractContextManager):
    """A process of `rehearsal_worker`, which waits for its request. It runs one, and is killed at the end."""

    def __init__(self):
        environment = os.environ | {LAUNCHED_BY: str(os.getpid())}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = subprocess.Popen([sys.executable, "-m", WORKER], env=environment, text=True, **pipes)
        self.is_waiting = True

    def run(self, request: dict, timeout: float) -> subprocess.CompletedProcess:
        """Rehearse a request, see `rehearsal.rehearse`, and return what the process printed and how it ended.

        Raises:
            subprocess.TimeoutExpired: If it took longer than ``timeout`` seconds.
        """
        self.is_waiting = False
        stdout, stderr = self._process.communicate(json.dumps(request), timeout=timeout)
        return subprocess.CompletedProcess(self._process.args, self._process.returncode, stdout, stderr)

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.communicate()
