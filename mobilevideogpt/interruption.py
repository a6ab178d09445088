"""Ctrl-C while a job still imports."""

import os
import sys

LAUNCHED_BY = "MOBILEVIDEOGPT_LAUNCHED_BY"  # environment variable: PID of the process that started this one


def end_quietly_in_jobs() -> None:
    """In a process that another one of the project launched, end without a traceback on Ctrl-C.

    The launcher says what was stopped. `mobilevideogpt.log.log_to` takes over once the imports are done.
    """
    if LAUNCHED_BY in os.environ and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _report


def _report(kind, error, traceback) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
