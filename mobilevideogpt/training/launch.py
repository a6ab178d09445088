"""Start the processes of a distributed training, and pass signals on to them."""

import os
import signal
import socket
import subprocess
import sys


def single_process_group() -> None:
    """Describe a group of one, which DeepSpeed asks for, in the environment."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def run_processes(processes: int, command: list[str]) -> int:
    """Run a script in several processes of this machine and return the exit status.

    Uses torch's launcher, as DeepSpeed's hands the signals on at once and returns while its processes are still
    saving. The launcher runs in a session of its own, so that a Ctrl-C reaches it once, through us; it gives its
    processes half a minute to save.

    Args:
        processes: How many.
        command: The script and its arguments.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # Before the launcher starts: a signal in between must not be lost.
    received: list[int] = []
    child: subprocess.Popen | None = None

    def pass_on(number, frame):
        if not received and child:
            child.send_signal(number)
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    child = subprocess.Popen([*launcher, *command], env=environment, start_new_session=True)
    if received:
        child.send_signal(received[0])
    status = child.wait()
    return 128 + received[0] if received and status else status
