"""Predictions for people and for programs: lines of a table, JSON lines, a page."""

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from mobilevideogpt.files import write_text
from mobilevideogpt.serving.pipeline import Prediction
from mobilevideogpt.serving.templates import template

WIDEST_NAME = 40  # characters of a clip's name in the table


def json_line(prediction: Prediction) -> str:
    """Return a prediction as JSON on one line."""
    return json.dumps(prediction.to_json(), ensure_ascii=False)


class Table:
    """Lines of a table that is printed while predictions arrive.

    Args:
        clips: All clips; a common folder in front is left out of their names.
        width: Characters of a line; that of the terminal by default.
    """

    def __init__(self, clips: Sequence[str], width: int | None = None):
        folders = {str(Path(clip).parent) for clip in clips}
        self._prefix = f"{folders.pop()}/" if len(folders) == 1 else ""
        self._name_width = min(WIDEST_NAME, max(len(self._name(clip)) for clip in clips))
        self._width = width or max(60, shutil.get_terminal_size((100, 24)).columns)

    def _name(self, clip: str) -> str:
        return clip.removeprefix(self._prefix)

    def row(self, prediction: Prediction) -> str:
        """Return the lines of a clip; a long answer is wrapped, never cut."""
        name = self._name(prediction.video)
        text = f"not answered: {prediction.error}" if prediction.error else prediction.answer or "(no text)"
        if prediction.cut:
            text += " ... (cut at --max-new-tokens)"
        indent = " " * (self._name_width + 2)
        lines = [line for part in text.splitlines() for line in textwrap.wrap(part, self._width - len(indent)) or [""]]
        first = f"{name:{self._name_width}}  " if len(name) <= self._name_width else f"{name}\n{indent}"
        return first + f"\n{indent}".join(lines)


def write_page(predictions: Sequence[Prediction], name: str, path: str | Path) -> None:
    """Write a page that contains the answers and the frames that the model received."""
    page = template("predictions.html.j2").render(predictions=predictions, name=name)
    write_text(page, path)
