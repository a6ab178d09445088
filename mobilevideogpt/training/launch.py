"""Start the processes of a distributed training, and pass signals on to them."""

import logging
import os
import signal
import socket
import subprocess
import sys


def prepare_deepspeed() -> None:
    """Let DeepSpeed start in a process of its own, with nothing compiled on the CPU."""
    import deepspeed.ops
    import torch

    if not torch.cuda.is_available():  # gloo alone does; this extension takes a compiler and half a minute
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
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

    Uses torch's launcher: DeepSpeed's hands a signal on and returns at once, while its processes are still saving. It
    runs in a session of its own, so that a Ctrl-C reaches it once, through us, and gives its processes 30 s to save.

    Args:
        processes: How many.
        command: The script and its arguments.
    """
    received: list[int] = []
    launcher: subprocess.Popen | None = None

    def pass_on(number, frame):
        received.append(number)
        if launcher and len(received) == 1:
            launcher.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    # "--", else its parser takes the script's options for its own
    arguments = ["--standalone", f"--nproc-per-node={processes}", "--", *command]
    launcher = subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments],
        env={"OMP_NUM_THREADS": "1", **os.environ},
        start_new_session=True,
    )
    if received:  # before it was there
        launcher.send_signal(received[0])
    status = launcher.wait()
    return 128 + received[0] if received and status else status


def main() -> None:
    """Be torch's launcher, but leave the telling of errors to the processes."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as launch

    logging.disable(logging.CRITICAL)
    try:
        launch(sys.argv[1:])
    except ChildFailedError as error:
        sys.exit(max(failure.exitcode for failure in error.failures.values()) or 1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
