"""Values as texts of the report."""

from collections.abc import Mapping

_SPELLINGS = {"cpu": "CPU", "gpus": "GPUs", "cuda": "CUDA", "deepspeed": "DeepSpeed"}


def percent(share: float | None) -> str:
    """``0.833`` as ``83 %`` (with a no-break space), None as a dash."""
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def count(share: float, n: int) -> str:
    """``0.833`` of 6 as ``5 of 6``."""
    return f"{round(share * n)} of {n}"


def duration(seconds: float) -> str:
    """``4000`` as ``1 h 7 min``."""
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def facts(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values in words: ``memory_bytes`` becomes ``Memory``, in GB."""
    rows = []
    for key, value in values.items():
        unit = "bytes" if key.endswith("_bytes") else ""
        words = [_SPELLINGS.get(word, word) for word in key.split("_")]
        name = " ".join(words[:-1] if unit else words)
        rows.append((name[:1].upper() + name[1:], _value(value, unit)))
    return rows


def _value(value: object, unit: str = "") -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int() if unit == "bytes":
            return f"{value / 1e9:.2f} GB"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
        case list():
            return "; ".join(map(_value, value)) or "none"
        case dict():
            return ", ".join(f"{name[:1].lower()}{name[1:]} {text}" for name, text in facts(value))
    return str(value)
