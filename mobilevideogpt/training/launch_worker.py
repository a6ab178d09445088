"""torch's launcher, as `launch` starts it: ends with its parent, and reports a killed process in one line."""

import logging
import os
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.run import main as launch

from mobilevideogpt.processes import LAUNCHED_BY, terminate_with_launcher, terminate_with_stdin
from mobilevideogpt.training.nodes import LOST_NODE


def main(arguments: list[str]) -> None:
    """Run torch's launcher. The training processes report their errors themselves, so its own log is off.

    Args:
        arguments: Those of torchrun.

    Raises:
        SystemExit: With its exit status, unless all processes succeeded.
    """
    logging.disable(logging.CRITICAL)
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


if __name__ == "__main__":
    main(sys.argv[1:])
