"""Operations on settings and their schema: defaults, layers, types, validation. Independent of the settings' names."""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError

from mobilevideogpt.errors import InputError, shown

MOST_SHOWN = 20  # errors in a message


def defaults(schema: dict) -> dict:
    """Return the default of each setting that has one, nested as the settings are."""
    found = {}
    for name, entry in schema["properties"].items():
        if "properties" in entry and not entry.get("required"):
            found[name] = defaults(entry)
        elif "default" in entry:
            found[name] = entry["default"]
    return found


def merge(below: dict, above: dict) -> dict:
    """Return ``below`` with what ``above`` sets, group by group."""
    merged = dict(below)
    for name, value in above.items():
        both_groups = isinstance(value, dict) and isinstance(below.get(name), dict)
        merged[name] = merge(below[name], value) if both_groups else value
    return merged


def differing(config: dict, reference: dict) -> dict:
    """Return the part of ``config`` that differs from ``reference``."""
    found = {}
    for name, value in config.items():
        other = reference.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            value = differing(value, other)
            if value:
                found[name] = value
        elif value != other:
            found[name] = value
    return found


def flatten(config: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each setting as its dotted name and its value."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def validated(config: dict, schema: dict, where: Callable[[Sequence[str]], str] = lambda path: "config.yaml") -> dict:
    """Validate settings and add the defaults.

    Text becomes a number where the schema wants one, as YAML reads ``2e-4`` as text. So do the words true, false and
    null become values: Snakemake's command line passes them as text inside braces.

    Args:
        config: Settings as read, plain values.
        schema: JSON schema (2020-12), closed, with a default for each optional key.
        where: Returns the name, in messages, of the configuration that has a setting, by the setting's path.

    Raises:
        InputError: If a key is unknown or a value is not allowed; the message names each.
    """
    config = _parse_text(config, schema)
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        lines = [f"{where(_path(error))}: {_explain(error)}" for error in errors[:MOST_SHOWN]]
        more = [f"and {len(errors) - MOST_SHOWN} more"] if len(errors) > MOST_SHOWN else []
        raise InputError("\n".join(lines + more))
    return merge(defaults(schema), config)


def _parse_text(config: Any, schema: dict) -> Any:
    """Turn text into the number, boolean or null that the schema wants."""
    if isinstance(config, dict):
        entries = schema.get("properties", {})
        return {name: _parse_text(value, entries.get(name, {})) for name, value in config.items()}
    if isinstance(config, list):
        return [_parse_text(value, schema.get("items", {})) for value in config]
    types = [name for one in schema.get("oneOf", [schema]) for name in _as_list(one.get("type"))]
    words = {"true": ("boolean", True), "false": ("boolean", False), "null": ("null", None)}
    if isinstance(config, str) and config in words and words[config][0] in types:
        return words[config][1]
    if isinstance(config, str) and {"number", "integer"} & {*types}:
        number = _number(config)
        if number is not None and math.isfinite(number):
            return int(number) if number.is_integer() and "integer" in types else number
    return config


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _number(text: str) -> float | None:
    """Return the number that a text is; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_infinite(text: str) -> bool:
    number = _number(text)
    return number is not None and not math.isfinite(number)


def _path(error: ValidationError) -> list[str]:
    """The path of the setting that an error is about: for an unknown key, of that key."""
    path = list(map(str, error.path))
    return [*path, _unknown(error)[0]] if error.validator == "additionalProperties" else path


def _unknown(error: ValidationError) -> list[str]:
    return [key for key in cast(dict, error.instance) if key not in cast(dict, error.schema)["properties"]]


def _explain(error: ValidationError) -> str:
    name = ".".join(map(str, error.path))
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known, unknown = list(schema["properties"]), _unknown(error)
        near = {key: difflib.get_close_matches(key[:100], known, n=1) for key in unknown[:MOST_SHOWN]}
        hints = [f"{shown(key)}" + (f" (did you mean {near[key][0]!r}?)" if near[key] else "") for key in near]
        more = f" and {len(unknown) - MOST_SHOWN} more" if len(unknown) > MOST_SHOWN else ""
        return f"unknown key in {name or 'the top level'}: {', '.join(hints)}{more}; use one of {', '.join(known)}"
    meaning = f". Meaning: {schema['description']}" if "description" in schema else ""
    return f"{name or 'top level'}: {_problem(error, name)}{meaning}"


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


def _problem(error: ValidationError, name: str) -> str:
    """Say what is wrong with a value, in plain words where those of jsonschema are not."""
    value, validator, schema = error.instance, str(error.validator), cast(dict, error.schema)
    if isinstance(value, str) and _is_infinite(value) and validator in ("type", "oneOf"):
        return f"{shown(value)} is not a finite number"
    if validator in _BOUNDS:
        return f"{shown(value)} must be {_BOUNDS[validator]} {error.validator_value}"
    if validator == "type" and schema.get("type") == "object":
        example = next(iter(schema.get("properties", {})), "name")
        group = {"source": "{source: qved}"}.get(example, f"{{{example}: ...}}")
        return (
            f"{shown(value)} is not a group of settings; write {name}={group} with --config, {name}: {group} in a file"
        )
    return error.message.replace(repr(value), shown(value), 1)
