"""Lines that stay, and on a terminal one more below them that changes."""

import shutil
from collections.abc import Mapping
from typing import TextIO

ERASE = "\r\x1b[K"


class Screen:
    """A stream, and whether it is a terminal that can erase a line."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]):
        self.stream = stream
        self.is_live = stream.isatty() and environ.get("TERM") != "dumb"
        self._status = ""

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.status("")
        print(text, file=self.stream, flush=True)

    def status(self, text: str) -> None:
        """Show ``text`` until the next line or status; nothing where the stream is not a terminal.

        The cursor returns to the start of the line, so that what a job prints begins there.
        """
        if not self.is_live or text == self._status:
            return
        self._status = text
        width = shutil.get_terminal_size().columns - 1
        print(f"{ERASE}{text[:width]}\r" if text else ERASE, end="", file=self.stream, flush=True)
