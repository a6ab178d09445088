"""Singular and plural in messages. Standard library only."""

import re

_FORMS = re.compile(r"\{(e?s)\}|\{([^{}|]*)\|([^{}|]*)\}")


def agree(count: int, text: str) -> str:
    """Return a text that agrees with a number: ``clip{s} that {is|are} here``.

    ``{s}`` and ``{es}`` are empty for one and stay for others; of ``{is|are}`` the first stays for one, the second for
    others. Other braces stay as they are.
    """

    def form(match: re.Match[str]) -> str:
        ending, one, others = match.groups(default="")
        return one if count == 1 else ending or others

    return _FORMS.sub(form, text)


def counted(count: int, text: str) -> str:
    """Return a number and the text that agrees with it: ``3 clips``, ``1 clip``."""
    return f"{count:,} {agree(count, text)}"
