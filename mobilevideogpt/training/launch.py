"""Start the processes of a distributed training, here or on several nodes, and forward signals to them.

The child is `launch_worker`.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import IO, Protocol

from mobilevideogpt.processes import LAUNCHED_BY
from mobilevideogpt.training.nodes import DEFAULTS, LOST_NODE, NodeCommand, node_commands
from mobilevideogpt.training.plan import Launch

POLL_SECONDS = 0.1


def quiet_libraries() -> None:
    """Keep the notices of DeepSpeed and accelerate off the terminal; to be called before they are imported."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    logging.getLogger("accelerate").setLevel(logging.ERROR)


def quiet_transformers() -> None:
    """Keep the progress bars of transformers off the terminal. This imports it."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


@contextmanager
def leaving_process_group() -> Iterator[None]:
    """End gloo's process group after the block, in each process of a training.

    Without, its threads abort a process that ends ("terminate called without an active exception"), on a busy machine
    one of three, and the training that was complete has failed. After an error, nothing is ended: others may wait in a
    collective, until the launcher ends them. NCCL's group ends with its process.
    """
    try:
        yield
    except SystemExit:  # a signal, which all of them have agreed on
        _leave()
        raise
    _leave()


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


class Launcher(Protocol):
    """torch's launcher of some processes of a training, as `_run_to_the_end` uses it."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""

    def stop(self, number: int) -> None:
        """Let its processes save and end, as after this signal."""


class ForkedLauncher:
    """torch's launcher for processes of this machine.

    It is a fork of this process, which has imported torch already; that takes seconds. Its session is its own: a Ctrl-C
    reaches it only by `stop`, and it gives its processes 30 s to save.

    Args:
        processes: How many.
        command: The script, or ``-m`` and a module, and its arguments.
        output: An open file for all that is printed; by default this process's own outputs.
    """

    def __init__(self, processes: int, command: list[str], output: IO | None = None):
        options = ["--standalone", f"--nproc-per-node={processes}"]
        if command[0] == "-m":
            options, command = [*options, "-m"], command[1:]
        # "--", else torch's parser would consume the script's options
        self._process = get_context("fork").Process(target=_launch, args=([*options, "--", *command], output))
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int | None:
        """Return the exit status; None if it still runs after ``timeout`` seconds."""
        self._process.join(timeout)
        return self._process.exitcode

    def stop(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)


def _launch(arguments: list[str], output: IO | None) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ |= {**DEFAULTS, **os.environ, LAUNCHED_BY: str(os.getppid())}

    from mobilevideogpt.training import launch_worker

    launch_worker.main(arguments)


class NodeLauncher:
    """The command that starts torch's launcher on a node, or on all."""

    def __init__(self, command: NodeCommand):
        self._ends_with_stdin = command.ends_with_stdin
        self._process = subprocess.Popen(
            command.words,
            stdin=subprocess.PIPE if command.ends_with_stdin else None,
            env={**DEFAULTS, **os.environ, LAUNCHED_BY: str(os.getpid())},
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self, number: int) -> None:
        """Close its standard input if it ends with that, else send SIGTERM: srun takes one SIGINT for a question."""
        if self._ends_with_stdin and self._process.stdin:
            self._process.stdin.close()
        else:
            self._process.send_signal(signal.SIGTERM)


def run_processes(processes: int, command: list[str]) -> int:
    """Run a script in several processes of this machine and return the exit status.

    This uses torch's launcher. DeepSpeed's forwards a signal and returns at once, while its processes are still saving.

    Args:
        processes: How many.
        command: The script and its arguments.
    """
    return _run_to_the_end([partial(ForkedLauncher, processes, command)])


def run_on_nodes(launch: Launch, command: list[str], hostfile: str | None) -> int:
    """Run a script in the processes of several nodes and return the exit status, see `run_processes`.

    Where it fails on a node, it is ended on all.

    Args:
        launch: With several nodes.
        command: The script and its arguments.
        hostfile: The file with the hosts; None under Slurm.

    Raises:
        InputError: See `nodes.check_nodes`.
    """
    return _run_to_the_end([partial(NodeLauncher, each) for each in node_commands(launch, command, hostfile)])


def _run_to_the_end(starts: Sequence[Callable[[], Launcher]]) -> int:
    received: list[int] = []
    started: list[Launcher] = []

    def stop() -> None:
        for launcher in started:
            launcher.stop((received or [signal.SIGTERM])[0])

    def forward(number, frame):
        received.append(number)
        if len(received) == 1:
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    for start in starts:
        started.append(start())
    if received:  # before the launchers had started
        stop()
    running, failed = started, []  # in order: what ended first says why, unless it only lost another
    while running:
        statuses = [(launcher, launcher.poll()) for launcher in running]
        running = [launcher for launcher, status in statuses if status is None]
        codes = [status for _, status in statuses if status]
        if codes and not (failed or received):
            stop()
        failed += codes
        time.sleep(POLL_SECONDS if running else 0)
    status = next((code for code in failed if code != LOST_NODE), failed[0] if failed else 0)
    return 128 + received[0] if received and status else status
