"""Start the processes of a distributed training, here or on several nodes, and forward signals to them.

The child is `launch_worker`.
"""

import logging
import os
import signal
import subprocess
import sys
import time

from mobilevideogpt.processes import LAUNCHED_BY
from mobilevideogpt.training.nodes import DEFAULTS, LOST_NODE, NodeCommand, node_commands
from mobilevideogpt.training.plan import Launch

POLL_SECONDS = 0.1


def quiet_libraries() -> None:
    """Keep the libraries' own notices off the terminal; to be called before they are imported."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def launcher_command(processes: int, command: list[str]) -> list[str]:
    """Return the command that starts a script, or ``-m`` and a module, with its arguments in several processes."""
    options = ["--standalone", f"--nproc-per-node={processes}"]
    if command[0] == "-m":
        options, command = [*options, "-m"], command[1:]
    # "--", else torch's parser would consume the script's options
    return [sys.executable, "-m", "mobilevideogpt.training.launch_worker", *options, "--", *command]


def run_processes(processes: int, command: list[str]) -> int:
    """Run a script in several processes of this machine and return the exit status.

    This uses torch's launcher. DeepSpeed's forwards a signal and returns at once, while its processes are still saving.
    The launcher runs in a session of its own. A Ctrl-C so reaches it once, forwarded by this process, and it gives its
    processes 30 s to save.

    Args:
        processes: How many.
        command: The script and its arguments.
    """
    return _run_to_the_end([NodeCommand(launcher_command(processes, command), ends_with_stdin=False)])


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
    return _run_to_the_end(node_commands(launch, command, hostfile))


def _run_to_the_end(commands: list[NodeCommand]) -> int:
    received: list[int] = []
    started: list[tuple[NodeCommand, subprocess.Popen]] = []

    def stop() -> None:
        for command, launcher in started:
            if command.ends_with_stdin and launcher.stdin:
                launcher.stdin.close()
            elif not command.ends_with_stdin:
                launcher.send_signal(
                    signal.SIGTERM if command.words[0] == "srun" else (received or [signal.SIGTERM])[0]
                )

    def forward(number, frame):
        received.append(number)
        if len(received) == 1:
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    for command in commands:
        launcher = subprocess.Popen(
            command.words,
            stdin=subprocess.PIPE if command.ends_with_stdin else None,
            env={**DEFAULTS, **os.environ, LAUNCHED_BY: str(os.getpid())},
            start_new_session=True,
        )
        started.append((command, launcher))
    if received:  # before the launchers had started
        stop()
    failed: list[int] = []  # in order: what ended first says why, unless it only lost another
    while running := [launcher for _, launcher in started if launcher.returncode is None]:
        codes = [launcher.returncode for launcher in running if launcher.poll()]
        if codes and not (failed or received):
            stop()
        failed += codes
        time.sleep(POLL_SECONDS)
    status = next((code for code in failed if code != LOST_NODE), failed[0] if failed else 0)
    return 128 + received[0] if received and status else status
