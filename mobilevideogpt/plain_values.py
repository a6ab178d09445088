"""The values that a configuration may contain: plain, finite, and of bounded size, whatever YAML can express."""

import math
import re
from collections.abc import Iterator
from typing import Any

from mobilevideogpt.errors import InputError, shown

LONGEST_TEXT = 100_000
LARGEST_INTEGER = 2**63 - 1
DEEPEST = 20
MOST_VALUES = 200_000  # with aliases expanded: a few lines of YAML can stand for billions
# Lone surrogates cannot be encoded; no file name and no prompt contains the others.
UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def check_plain(config: object, where: str) -> None:
    """Check that settings are nested dictionaries and lists of text, numbers, booleans and null.

    Args:
        config: Settings as YAML or JSON is read.
        where: Name of the configuration in messages.

    Raises:
        InputError: If a key is not text, a number is not finite, a value is of another kind or larger than any setting
            needs, or the whole is nested too deeply or too large. An alias that contains itself is nested too deeply.
    """
    for seen, (name, value) in enumerate(_values(config, (), where), 1):
        if seen > MOST_VALUES:
            raise InputError(f"{where}: more than {MOST_VALUES:,} values, aliases (*name) expanded; shorten it")
        if problem := _problem(value):
            raise InputError(f"{where}: {'.'.join(name) or 'top level'}: {problem}")


def _values(value: Any, name: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each value below ``value``, and itself, with its name."""
    yield name, value
    if not isinstance(value, dict | list):
        return
    if len(name) == DEEPEST:
        raise InputError(
            f"{where}: {name[0]}: is nested more than {DEEPEST} levels deep; write it flat, and no alias (*name) "
            "inside what it stands for"
        )
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        if isinstance(value, dict) and not isinstance(key, str):
            place = ".".join(name) or "the top level"
            raise InputError(
                f"{where}: the key {_key(key)} in {place} is not text; remove it, or put it in quotes. YAML reads yes, "
                "no, on, off, true and false as booleans, null as nothing, and figures as numbers"
            )
        if isinstance(key, str) and (problem := _problem(key)):
            raise InputError(f"{where}: a key in {'.'.join(name) or 'the top level'}: {problem}")
        yield from _values(entry, (*name, str(key)[:50]), where)


def _key(key: object) -> str:
    return shown(key) if not isinstance(key, int) or abs(key) <= LARGEST_INTEGER else "of many digits"


def _problem(value: object) -> str:
    """Why a value is not allowed, and what to do; empty if it is."""
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "an integer of more than 19 digits; write a smaller number"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number; write a finite one"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"a text of {len(value):,} characters, {shown(value[:100])}...; write at most {LONGEST_TEXT:,}"
    if isinstance(value, str) and (found := UNUSABLE.search(value)):
        return f"{shown(value)} contains {found[0]!r}, a control character or half of a character; remove it"
    if value is not None and not isinstance(value, str | int | float | dict | list):
        return f"{shown(value)} is of YAML's type {type(value).__name__}, which no setting has; put it in quotes"
    return ""
