"""Singular and plural in messages. Standard library only."""

import re

_FORMS = re.compile(r"\{(\w*)(?:\|(\w*))?\}")


def agree(count: int, text: str) -> str:
    """Return a text that agrees with a number: ``clip{s} that {is|are} here``.

    ``{s}`` is empty for one and stays for others; of ``{is|are}`` the first stays for one, the second for others.
    """

    def form(match: re.Match[str]) -> str:
        one, others = ("", match[1]) if match[2] is None else (match[1], match[2])
        return one if count == 1 else others

    return _FORMS.sub(form, text)


def counted(count: int, text: str) -> str:
    """Return a number and the text that agrees with it: ``3 clips``, ``1 clip``."""
    return f"{count:,} {agree(count, text)}"
