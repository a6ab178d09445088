"""Checks of the data set and of the machine, for the checklist and the preflight. Standard library only."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from mobilevideogpt.wording import counted

SHOWN = 3  # names in a list


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What is checked.
        ok: Whether it passed.
        detail: What was found.
        remedy: What to do; empty if the check passed, or if ``detail`` says it.
        later: Whether it passed only because a later step of the workflow does what is missing.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    later: bool = False

    def __post_init__(self):
        if self.ok and not self.later:
            object.__setattr__(self, "remedy", "")

    @property
    def state(self) -> str:
        """The state as a word: ok, later or WRONG."""
        return "WRONG" if not self.ok else "later" if self.later else "ok"

    @property
    def text(self) -> str:
        """Detail and remedy as one text."""
        return "; ".join(filter(None, (self.detail, self.remedy)))

    def to_json(self) -> dict:
        """Return the check as a JSON object; ``later`` is there only where it is true."""
        return {name: value for name, value in asdict(self).items() if name != "later" or value}


def all_ok(checks: Iterable[Check]) -> bool:
    """Whether every check passed."""
    return all(check.ok for check in checks)


def failed_lines(checks: Iterable[Check]) -> str:
    """Return an indented line for each check that failed."""
    return "\n".join(f"  {check.name}: {check.text}" for check in checks if not check.ok)


def print_checks(checks: Sequence[Check], file: TextIO | None = None) -> None:
    """Print an aligned table, with the remedy below each check that has one, and the number of each state."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.state:5}  {check.name:{width}}  {check.detail}", file=file)
        if check.remedy:
            print(f"{'':5}  {'':{width}}  -> {check.remedy}", file=file)
    print(f"\n{summary(checks)}", file=file)


def summary(checks: Sequence[Check]) -> str:
    """Return the number of checks of each state: ``17 checks: 14 ok, 2 later, 1 wrong``."""
    counts = Counter(check.state for check in checks)
    found = ", ".join(f"{counts[state]} {state.lower()}" for state in ("ok", "later", "WRONG") if counts[state])
    return f"{counted(len(checks), 'check{s}')}: {'all ok' if counts['ok'] == len(checks) else found}"


def markdown_table(checks: Iterable[Check]) -> list[str]:
    """Return the lines of a Markdown table, a row for each check."""
    rows = [
        f"| {check.state if check.ok else '**wrong**'} | {check.name} | {markdown_cell(check.text)} |"
        for check in checks
    ]
    return ["| | check | found |", "| --- | --- | --- |", *rows]


def markdown_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table: neither HTML nor a link nor an image comes of a clip's name."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("](", "]\\(").replace("\n", " ")


def listing(items: Sequence[str], limit: int = SHOWN) -> str:
    """Return the first items, and the number of the others."""
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")
