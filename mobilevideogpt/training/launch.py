"""Start the processes of a distributed training, and forward signals to them. The child is `launch_worker`."""

import logging
import os
import signal
import subprocess
import sys

from mobilevideogpt.processes import LAUNCHED_BY


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
    received: list[int] = []
    launcher: subprocess.Popen | None = None

    def forward(number, frame):
        received.append(number)
        if launcher and len(received) == 1:
            launcher.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    launcher = subprocess.Popen(
        launcher_command(processes, command),
        env={"OMP_NUM_THREADS": "1", **os.environ, LAUNCHED_BY: str(os.getpid())},
        start_new_session=True,
    )
    if received:  # before the launcher had started
        launcher.send_signal(received[0])
    status = launcher.wait()
    return 128 + received[0] if received and status else status
