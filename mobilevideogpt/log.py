"""Logging of the scripts: log file, terminal and progress."""

import io
import logging
import sys
import time
from pathlib import Path

from tqdm import tqdm

from mobilevideogpt.errors import InputError
from mobilevideogpt.processes import exit_with_launcher

SECONDS_A_LINE = 30
OURS = {"mobilevideogpt", "root", "__main__"}  # loggers whose warnings a person should see
ERASE = "\r\x1b[K"  # the line of the terminal that shows what runs


def log_to(path: str | Path) -> None:
    """Log INFO and above to ``path``, and the project's warnings and all errors to the terminal, too.

    Warnings of libraries go to the file alone; most concern other libraries. An uncaught `InputError` is logged as its
    message, without a traceback; any other exception with its traceback.

    Each script begins with this call, so that it ends with its Snakemake from here on.
    """
    exit_with_launcher()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def not_written(record):
        if not isinstance(sys.exception(), OSError):  # a full disk: the terminal shows what stopped the run
            logging.FileHandler.handleError(file, record)

    file.handleError = not_written
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter(f"{ERASE if sys.stderr.isatty() else ''}%(levelname)s: %(message)s"))
    terminal.addFilter(lambda record: record.levelno >= logging.ERROR or record.name.partition(".")[0] in OURS)
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal], force=True)
    logging.captureWarnings(True)

    def report(kind, error, traceback):
        if issubclass(kind, InputError):
            logging.error("%s", error)
        elif issubclass(kind, KeyboardInterrupt):
            logging.info("interrupted")
        else:
            logging.critical("unexpected error", exc_info=(kind, error, traceback))

    sys.excepthook = report


class Progress(tqdm):
    """A progress bar on a terminal; elsewhere, and in the log, a line every `SECONDS_A_LINE` seconds."""

    def __init__(self, *args, **kwargs):
        self.on_terminal = sys.stderr.isatty()
        self.next_line = time.monotonic() + SECONDS_A_LINE
        if not self.on_terminal:
            line = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {elapsed} so far, {remaining} left"
            kwargs |= {"file": io.StringIO(), "bar_format": line}
        else:
            sys.stderr.write(ERASE)
        kwargs.setdefault("leave", False)  # the result of the stage takes its place
        super().__init__(*args, mininterval=0.1 if self.on_terminal else 1, **kwargs)

    def display(self, msg=None, pos=None):
        """Show the bar; every `SECONDS_A_LINE` seconds log a line, and print it where there is no terminal."""
        if self.on_terminal:
            super().display(msg, pos)
        if msg is None and time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + SECONDS_A_LINE
            logging.getLogger(__name__).info("%s", self)
            if not self.on_terminal:
                print(self, file=sys.stderr, flush=True)
