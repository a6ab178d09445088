"""The error that the input causes, not the program. Standard library only."""

from collections.abc import Callable
from functools import wraps

LONGEST_SHOWN = 120


class InputError(ValueError):
    """A file or a setting of the user is wrong; the message says what, where, and how to fix it.

    Scripts print it without a traceback and exit with status 1.
    """


def exit_on_input_error(function: Callable) -> Callable:
    """Let an InputError in a rule end everything at once; a WorkflowError would name lines of the rules."""

    @wraps(function)
    def checked(*arguments, **options):
        try:
            return function(*arguments, **options)
        except InputError as error:
            raise SystemExit(f"ERROR: {error}") from None

    return checked


def shown(value: object) -> str:
    """Return a value as Python writes it, cut to `LONGEST_SHOWN` characters, for a message."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text):,} characters)"
