"""What an answer says about a clip, and whether that is right: the exercise, the feedback, or the whole free text."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mobilevideogpt.annotations.answers import are_free_text, split_label, split_labels

Content = frozenset[str]
_GAP = r"[\W_]*"  # between the words of a name


@dataclass(frozen=True)
class Task:
    """What the answers of a data set are about, as its samples show.

    Attributes:
        exercises: All that the data contains.
        free_text: Whether the answers do not name an exercise.
        prompt_names_exercise: Whether every prompt contains the exercise of its clip.
    """

    exercises: tuple[str, ...]
    free_text: bool
    prompt_names_exercise: bool

    @property
    def subject(self) -> str:
        """What tells a model that learned from one that did not: ``answers``, ``feedback`` or ``exercises``."""
        if self.free_text:
            return "answers"
        return "feedback" if self.prompt_names_exercise or len(self.exercises) < 2 else "exercises"

    def spelled(self, folded: str) -> str:
        """An exercise as the data spells it, with spaces for underscores; any other text as it is."""
        spellings = (_composed(name).replace("_", " ") for name in self.exercises)
        return next((name for name in spellings if fold(name) == folded), folded)

    def content(self, answer: str) -> Content:
        """What an answer says about the subject; empty if it says nothing about it.

        An answer that names no exercise of the data, where one is asked for, is its whole text.
        """
        if self.subject == "exercises":
            named = named_exercise(answer, self.exercises)
            return frozenset([fold(named)]) if named else labels(answer)
        return self.feedback(answer)

    def feedback(self, answer: str) -> Content:
        """The feedback of each label in an answer, or the labels of free text."""
        return labels(answer) if self.free_text else feedback(answer, self.exercises)

    def reference(self, reference: str, exercise: str) -> Content:
        """What the right answer about a clip says about the subject; the manifest's exercise is the right one."""
        return frozenset([fold(exercise)]) if self.subject == "exercises" else self.feedback(reference)


def task_of(rows: Sequence[Mapping], train_samples: Iterable[Mapping]) -> Task:
    """Decide from the data what the answers are about.

    Args:
        rows: With ``exercise``, ``prompt`` and ``reference``.
        train_samples: With ``exercise`` and ``conversations``.
    """
    trained = [(turns(sample)[1], sample["exercise"]) for sample in train_samples]
    tested = [(row["reference"], row["exercise"]) for row in rows]
    return Task(
        exercises=tuple(sorted({exercise for _, exercise in trained + tested})),
        free_text=are_free_text(trained + tested),
        prompt_names_exercise=all(mentions(row["prompt"], row["exercise"]) for row in rows),
    )


def turns(sample: Mapping) -> tuple[str, str]:
    """Prompt and response of a sample."""
    said = {turn["from"]: turn["value"] for turn in sample["conversations"]}
    return said["human"], said["gpt"]


def group_of(row: Mapping) -> str:
    """The group that a split keeps together; a sample without one is a group with the others of its clip."""
    return row.get("group") or row["video"]


@lru_cache(maxsize=100_000)
def fold(text: str) -> str:
    """Fold a text for comparison: case, underscores, runs of white space and final punctuation.

    Accented letters are composed (Unicode's NFC), as the tokenizer composes them.
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", text)).strip().rstrip(".!?,;:").rstrip().casefold()


@lru_cache(maxsize=100_000)
def labels(answer: str) -> Content:
    """The labels of an answer, folded."""
    return frozenset(filter(None, map(fold, split_labels(answer))))


@lru_cache(maxsize=100_000)
def feedback(answer: str, exercises: tuple[str, ...]) -> Content:
    """The feedback of each label, folded: what follows the exercise, or the whole label if it names none of them."""
    found = []
    for label in split_labels(answer):
        exercise = named_exercise(label, exercises)
        found.append(fold(split_label(label, exercise)[1] if exercise else label))
    return frozenset(filter(None, found))


@lru_cache(maxsize=100_000)
def named_exercise(answer: str, exercises: tuple[str, ...]) -> str | None:
    """The exercise that an answer begins with; of several, the longest name."""
    first = next(iter(split_labels(answer)), "")
    return max((name for name in exercises if split_label(first, name)[0]), key=len, default=None)


@lru_cache(maxsize=100_000)
def mentions(text: str, exercise: str) -> bool:
    """Whether a text contains the name of an exercise, in whole words."""
    return bool(_mention(exercise).search(_composed(text)))


@lru_cache(maxsize=100_000)
def question_of(prompt: str, exercise: str) -> str:
    """The question of a prompt without the name of its exercise, so that those of one template are equal."""
    return fold(_mention(exercise).sub("{exercise}", _composed(prompt)))


def set_f1(reference: Content, answer: Content) -> float:
    """F1 of two sets of labels; 1 where both are empty."""
    return 2 * len(reference & answer) / (len(reference) + len(answer)) if reference or answer else 1.0


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=4096)
def _mention(exercise: str) -> re.Pattern[str]:
    words = list(map(re.escape, re.findall(r"[^\W_]+", _composed(exercise)))) or ["(?!)"]  # without words, no match
    return re.compile(rf"(?<![^\W_])({_GAP.join(words)})(?![^\W_])", re.IGNORECASE)
