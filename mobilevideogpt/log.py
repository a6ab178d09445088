"""Where a script's records and tracebacks go."""

import logging
import sys
from pathlib import Path

from mobilevideogpt.errors import InputError


def log_to(path: str | Path) -> None:
    """Send records of INFO and above to ``path``, warnings to the terminal too, and end on errors in plain words.

    What libraries say through Python's `warnings`, of one another mostly, goes to the log alone.
    An `InputError` that nobody catches is printed without its traceback; both go to the log.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    terminal.addFilter(lambda record: record.name != "py.warnings")
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal], force=True)
    logging.captureWarnings(True)

    def report(kind, error, traceback):
        if issubclass(kind, InputError):
            logging.error("%s", error)
        elif issubclass(kind, KeyboardInterrupt):
            logging.error("interrupted")
        else:
            logging.critical("unexpected error", exc_info=(kind, error, traceback))

    sys.excepthook = report
