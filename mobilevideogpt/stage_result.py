"""The result of a stage in a phrase: a script writes it to its log, the terminal reads it. Standard library only."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

LOGGER = "mobilevideogpt.result"  # the name of the logger, by which a line of a log is found again
_RESULT = re.compile(rf"^[-\d]+ [:,\d]+ INFO {re.escape(LOGGER)}: (.*)$", re.M)
_ERROR = re.compile(r"^[-\d]+ [:,\d]+ (?:ERROR|CRITICAL) ", re.M)
_RECORD = re.compile(r"^[-\d]+ [:,\d]+ (?=[A-Z]+ )", re.M)
_END = 1 << 16  # bytes at the end of a log that are read


def log_result(text: str) -> None:
    """Write the result of a stage to its log, as one line."""
    logging.getLogger(LOGGER).info("%s", " ".join(text.split()))


def last_result(logs: Iterable[str | Path]) -> str:
    """Return the last result in these logs; empty without one."""
    found = [text for log in logs for text in _RESULT.findall(_end_of(log))]
    return found[-1] if found else ""


def tells_an_error(logs: Iterable[str | Path]) -> bool:
    """Whether a script logged an error, which it also printed."""
    return any(_ERROR.search(_end_of(log)) for log in logs)


def errors_in(logs: Iterable[str | Path]) -> list[str]:
    """Return the errors that a script logged, each with all its lines."""
    records = (text for log in logs for text in _RECORD.split(_end_of(log)))
    return [text.split(": ", 1)[-1].strip() for text in records if text.startswith(("ERROR ", "CRITICAL "))]


def _end_of(log: str | Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
