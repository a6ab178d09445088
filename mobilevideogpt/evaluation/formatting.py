"""Values as texts of the pages."""

from collections.abc import Mapping

from mobilevideogpt.evaluation.statistics import Comparison

_SPELLINGS = {"cpu": "CPU", "gpu": "GPU", "gpus": "GPUs", "cuda": "CUDA", "deepspeed": "DeepSpeed"}


def percent(share: float | None) -> str:
    """``0.833`` as ``83 %`` (with a no-break space), None as a dash."""
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def points(share: float, sign: bool = False, unit: bool = True) -> str:
    """``0.1`` as ``10 points``; with ``sign``, as ``+10 points``."""
    number = round(100 * share) or 0
    text = f"{number:+d}" if sign and number else f"{number:d}"
    text = text.replace("-", "\N{MINUS SIGN}")
    return f"{text} {'point' if abs(number) == 1 else 'points'}" if unit else text


def p_value(p: float) -> str:
    """``0.03125`` as ``p = 0.031``, small ones as ``p < 0.001``, both with no-break spaces."""
    if p < 0.001:
        return "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"
    return f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p:.{2 if p >= 0.1 else 3}f}"


def comparison_text(found: Comparison, p: float | None = None) -> str:
    """``6 better, 0 worse, p = 0.031; difference +100 points, 95\N{NO-BREAK SPACE}% interval ...``.

    Args:
        found: The comparison.
        p: To show instead of its own, where it is adjusted for several tests.
    """
    unit = "" if found.groups == found.n else f" of {plural(found.groups, 'group')}"
    counts = "" if found.better is None else f"{found.better} better, {found.worse} worse{unit}, "
    low, high = points(found.interval.low, sign=True, unit=False), points(found.interval.high, sign=True)
    return (
        f"{counts}{p_value(found.p if p is None else p)}; difference {points(found.difference, sign=True)}, "
        f"95\N{NO-BREAK SPACE}% interval {low} to {high}"
    )


def groups_text(needed: int, found: Comparison, gain: float, what: str = "gain") -> str:
    """Say how many more clips would probably tell, where ``needed`` groups find a difference of ``gain``."""
    more = needed - found.groups if needed > found.groups else found.groups
    if found.groups == found.n:
        units = plural(more, "more test clip")
    else:
        units = plural(more, "more group of test clips", "more groups of test clips")
    return (
        f"About {units} would tell: {found.groups + more:,} in all find a {what} of {points(gain)} with a probability "
        "of 80\N{NO-BREAK SPACE}%."
    )


def plural(n: int, noun: str, several: str = "") -> str:
    """``2`` and clip as ``2 clips``."""
    return f"{n:,} {noun if n == 1 else several or noun + 's'}"


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
        rows.append((name[:1].upper() + name[1:], value_text(value, unit)))
    return rows


def value_text(value: object, unit: str = "") -> str:
    """A value in words: None as a dash, a number with separators, an object as names and values."""
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
            return "; ".join(map(value_text, value)) or "none"
        case dict():
            return ", ".join(f"{_within(name)} {text}" for name, text in facts(value))
    return str(value)


def _within(name: str) -> str:
    """The name of a fact within a sentence: ``Driver`` as ``driver``, but ``CUDA`` as it is."""
    return name if name.split()[0] in _SPELLINGS.values() else f"{name[:1].lower()}{name[1:]}"
