"""The shape of a JSON value, as the reader of a file needs it. Standard library only."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

_NAMES = {
    **{dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a whole number"},
    type(None): "null",
}
# What `json.loads` makes of values of a type.
_JSON_TYPES = {kind: (kind,) for kind in (dict, list, str, bool, int)} | {float: (int, float), None: (type(None),)}


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """Return how a value differs from a shape, as the rest of a sentence; None if it fits.

    Args:
        value: As `json.loads` returns it.
        shape: A type, where ``float`` is any number and ``object`` anything; None; ``[shape]``, a list of such values;
            ``{"key": shape}``, an object with these keys and perhaps more; ``{str: shape}``, an object of any keys; or
            a tuple of shapes, of which one has to fit.
        where: What the text calls the value.
    """
    return None if _all_fit([value], shape) else _difference(value, shape, where)


def _all_fit(values: Collection, shape: Any) -> bool:
    """Whether all values fit, a column of them at a time and without texts: files have millions."""
    shapes = shape if isinstance(shape, tuple) else (shape,)
    allowed: set[type] = set()
    parts = []
    for each in shapes:
        if each is object:
            return True
        if each is None or isinstance(each, type):
            allowed.update(_JSON_TYPES[each])
        else:
            parts.append(each)
    if allowed.issuperset(map(type, values)):
        return True
    rest = [value for value in values if type(value) not in allowed]
    if len(parts) == 1:
        return _have_parts(rest, parts[0])
    return all(any(_all_fit([value], each) for each in parts) for value in rest)


def _have_parts(values: Sequence, shape: list | dict) -> bool:
    if {type(shape)} != set(map(type, values)):
        return False
    if isinstance(shape, list):
        return _all_fit(list(chain.from_iterable(values)), shape[0])
    if str in shape:
        return _all_fit(list(chain.from_iterable(value.values() for value in values)), shape[str])
    try:
        return all(_all_fit([value[key] for value in values], each) for key, each in shape.items())
    except KeyError:
        return False


def _difference(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, tuple):
        found = [_difference(value, each, where) for each in shape]
        return None if None in found else found[0]
    kind = shape if isinstance(shape, type) else type(shape)
    if not _is_of(value, kind):
        return f"{where} is {_name(type(value))}, not {_name(kind)}".strip()
    if isinstance(shape, list):
        parts = [(item, shape[0], f"entry {i}") for i, item in enumerate(value, 1)]
    elif isinstance(shape, dict) and str in shape:
        parts = [(item, shape[str], f'"{key}"') for key, item in value.items()]
    elif isinstance(shape, dict):
        if missing := [key for key in shape if key not in value]:
            return f'{where} has no "{missing[0]}"'.strip()
        parts = [(value[key], each, f'"{key}"') for key, each in shape.items()]
    else:
        return None
    texts = (_difference(item, each, f"{where}, {name}" if where else name) for item, each, name in parts)
    return next((text for text in texts if text), None)


def _is_of(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(value, kind)


def _name(kind: type) -> str:
    return _NAMES.get(kind, "a number")
