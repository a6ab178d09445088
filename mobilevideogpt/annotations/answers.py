"""What an answer says: which exercise and which feedback, or free text. Standard library only.

An answer consists of labels joined with ``"; "``. A label is ``<exercise> - <feedback>`` only if its first part is the
exercise of its own clip, as the manifest gives it: "Good - go deeper" is a sentence.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

SEPARATOR = "; "
_SEPARATOR = re.compile(r";(?:\s+|$)")
_DASH = re.compile(r"\s+[-\u2013\u2014]\s+")  # hyphen, en dash, em dash

# How Qwen2's tokenizer.json divides a text before byte-pair encoding, which joins nothing across these pieces.
_PRETOKEN = re.compile(
    r"'(?:[sdmt]|re|ve|ll)|(?:[^\r\n\w]|_)?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", re.I
)


def split_labels(text: str) -> list[str]:
    """Return the labels of an answer, in its order, without empty ones."""
    return [label for part in _SEPARATOR.split(text) if (label := part.strip())]


def join_answer(labels: Iterable[str]) -> str:
    """Return the answer of several labels: each once, sorted, so that equal sets of labels give equal answers."""
    return SEPARATOR.join(sorted({label for label in labels if label}))


@lru_cache(maxsize=10_000)  # of many clips, the same labels again and again
def split_label(label: str, exercise: str) -> tuple[bool, str]:
    """Divide a label into exercise and feedback.

    Args:
        label: One label of an answer.
        exercise: The exercise of the clip in the manifest.

    Returns:
        Whether the label names this exercise (case, spaces, underscores and hyphens do not matter), and the feedback:
        the text after the exercise (empty for a bare exercise), else the whole label.
    """
    label, wanted = label.strip(), fold_name(exercise)
    for dash in _DASH.finditer(label):  # an exercise may contain a dash itself: "side plank - left"
        if fold_name(label[: dash.start()]) == wanted:
            return True, label[dash.end() :]
    return (True, "") if wanted and fold_name(label) == wanted else (False, label)


def exercise_named(label: str) -> str | None:
    """Return the part of a label that names an exercise if the label is ``<exercise> - <feedback>``, else None."""
    dash = _DASH.search(label.strip())
    return label.strip()[: dash.start()] or None if dash else None


def names_exercise(answer: str, exercise: str) -> bool:
    """Whether an answer begins with the exercise of its clip."""
    labels = split_labels(answer)
    return bool(labels) and split_label(labels[0], exercise)[0]


def are_free_text(pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether answers are free text: fewer than half of them begin with the exercise of their own clip.

    Args:
        pairs: Each answer with the exercise of its clip.
    """
    named = [names_exercise(answer, exercise) for answer, exercise in pairs]
    return 2 * sum(named) < len(named)


def without_exercise(question: str, exercise: str) -> str:
    """Return a question folded and without the name of its exercise, so that those of one template are equal."""
    return fold_name(question).replace(fold_name(exercise), "{exercise}")


def least_tokens(text: str) -> int:
    """Return a number of tokens that Qwen2's tokenizer does not go below: its words, digits and runs of punctuation.

    A word may become several tokens, never less than one. So a text that this counts as too long is too long for
    certain; whether another one fits is known only to the tokenizer, which this room does not load.
    """
    return sum(1 for _ in _PRETOKEN.finditer(text))


@lru_cache(maxsize=10_000)  # exercises are few
def fold_name(name: str) -> str:
    """Return the letters and digits of a name, without case."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFC", name).casefold()))
