"""torch's launcher, as `launch` starts it: ends with its parent, and reports a killed process in one line."""

import logging
import os
import signal
import sys
import time
from threading import Thread

import psutil
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.run import main as launch

from mobilevideogpt.processes import LAUNCHED_BY, terminate_with_launcher, terminate_with_stdin
from mobilevideogpt.training.nodes import LOST_NODE

WAIT_SECONDS = 2


def main(arguments: list[str]) -> None:
    """Run torch's launcher. The training processes report their errors themselves, so its own log is off.

    Args:
        arguments: Those of torchrun.

    Raises:
        SystemExit: With its exit status, unless all processes succeeded.
    """
    logging.disable(logging.CRITICAL)
    _hear_signals()
    terminate_with_launcher()
    terminate_with_stdin()
    os.environ[LAUNCHED_BY] = str(os.getpid())  # for the processes that it starts
    try:
        launch(arguments)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        killed = [rank for rank, code in codes.items() if code == -signal.SIGKILL]
        for rank in killed:
            print(
                f"ERROR: process {rank} was killed by signal 9, most likely for lack of memory. Completed steps are "
                "kept. Free some memory and run the same command again; it resumes from the last checkpoint",
                file=sys.stderr,
            )
        sys.exit(128 + signal.SIGKILL if killed else max(codes.values()) or 1)
    except RendezvousError:
        sys.exit(LOST_NODE)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _hear_signals() -> None:
    """Have a thread end this process after a signal, once it has no processes of its own.

    torch's launcher waits up to five minutes for the other nodes when its processes are complete, and hears no signal
    meanwhile.
    """
    heard, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    Thread(target=_end_without_processes, args=(heard,), daemon=True).start()


def _end_without_processes(heard: int) -> None:
    while (number := os.read(heard, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    while True:
        time.sleep(WAIT_SECONDS)  # torch's own handler comes first, if it can
        if all(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process().children()):
            os._exit(128 + number)


if __name__ == "__main__":
    main(sys.argv[1:])
