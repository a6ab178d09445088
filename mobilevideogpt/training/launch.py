"""Start the processes of a distributed training, pass signals on to them, and let none outlive who waits for it."""

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

logger = logging.getLogger(__name__)

STARTED_BY = "MOBILEVIDEOGPT_STARTED_BY"  # environment variable: the process that a launcher or a rank belongs to


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


def let_memory_grow() -> None:
    """Let the GPU's allocator extend its segments, unless the user's environment configures it.

    What ZeRO-3 gathers and frees comes in many sizes, and would leave a third of the memory in gaps.
    """
    import torch

    configured = os.environ.keys() & {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"}
    if torch.cuda.is_available() and not configured:
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")


def leave_out_broken_deepspeed() -> None:
    """Let accelerate, which imports DeepSpeed wherever it is installed, do without one that cannot be imported."""
    if importlib.util.find_spec("deepspeed") is None:
        return
    try:
        importlib.import_module("deepspeed")
    except Exception as error:  # DeepSpeed raises its own kinds where a CUDA toolkit or a compiler is missing
        logger.warning("training without DeepSpeed, which cannot be imported (%s: %s)", type(error).__name__, error)
        sys.modules["deepspeed"] = None  # as if it were not installed


def stop_with_who_waits() -> None:
    """Send this process SIGTERM, which saves a checkpoint, once the one that waits for it is gone, killed perhaps.

    That is what started it as one of several processes, else the Snakemake that it is a job of. Without either it goes
    on by itself. Polling works on every system and for ancestors, too, unlike Linux's parent-death signal.
    """
    if started_by := os.environ.get(STARTED_BY):
        pids = [int(started_by)]
    else:
        pids = [process.pid for process in psutil.Process().parents() if _is_snakemake(process)][:1]
    for pid in pids:
        threading.Thread(target=_stop_after, args=(pid,), daemon=True).start()


def _is_snakemake(process: psutil.Process) -> bool:
    try:
        words = [os.path.basename(word) for word in process.cmdline()[:3]]
    except psutil.Error:  # gone, or another user's
        return False
    return words[:1] == ["snakemake"] or ("snakemake" in words and words[0].startswith("python"))


def _stop_after(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def launcher_command(processes: int, command: list[str]) -> list[str]:
    """Return the command that starts a script, or ``-m`` and a module, with arguments in several processes."""
    options = ["--standalone", f"--nproc-per-node={processes}"]
    if command[0] == "-m":
        options, command = [*options, "-m"], command[1:]
    # "--", else torch's parser takes the script's options for its own
    return [sys.executable, "-m", __name__, *options, "--", *command]


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
    launcher = subprocess.Popen(
        launcher_command(processes, command),
        env={"OMP_NUM_THREADS": "1", **os.environ, STARTED_BY: str(os.getpid())},
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
    stop_with_who_waits()
    os.environ[STARTED_BY] = str(os.getpid())  # for the processes that it starts
    try:
        launch(sys.argv[1:])
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = [rank for rank, code in codes.items() if code == -signal.SIGKILL]
        for rank in killed:
            print(
                f"ERROR: process {rank} was killed by signal 9, most likely for want of memory; free some and type the "
                "same command again, which goes on from the last checkpoint",
                file=sys.stderr,
            )
        sys.exit(128 + signal.SIGKILL if killed else max(codes.values()) or 1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
