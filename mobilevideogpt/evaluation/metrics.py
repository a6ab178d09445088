"""Scores of generated answers.

An answer reads ``"<exercise> - <feedback>"``, where the exercise may contain hyphens; or it is free text without an
exercise.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

from mobilevideogpt.errors import InputError

LABELS = "labels"  # the value of annotations.source under which an answer names exercise and feedback


def is_free_text(answers: str) -> bool:
    """Whether the answers of this ``annotations.source`` are free text."""
    return answers != LABELS


def feedback_decides(settings: Mapping) -> bool:
    """Whether only the feedback tells models apart: the prompt names the exercise, or the answers are free text.

    Args:
        settings: The ``settings`` of `mobilevideogpt.evaluation.evaluate.evaluate`'s metrics.
    """
    return settings["prompt_names_exercise"] or is_free_text(settings["answers"])


def fold(text: str) -> str:
    """Fold a text for comparison: case, underscores, runs of white space and final punctuation.

    Accented letters are composed (Unicode's NFC), as the tokenizer composes them.
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", text)).strip().rstrip(".!?,;:").rstrip().casefold()


class WordTokenizer:
    """Splits a text of any script into words, for ROUGE; the default of `rouge_score` finds only a to z."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).lower())


def split_answer(text: str, free_text: bool = False) -> tuple[str, str]:
    """Split an answer at its first ``" - "`` into exercise and feedback, both folded.

    An answer without ``" - "`` is all exercise. Free text is all feedback.
    """
    if free_text:
        return "", fold(text)
    exercise, _, feedback = text.partition(" - ")
    return fold(exercise), fold(feedback)


def score(
    references: Sequence[str], predictions: Sequence[str], shown: Sequence[str] | None = None, free_text: bool = False
) -> dict:
    """Compare predictions with references.

    Args:
        references: The right answers.
        predictions: The model's answers, in the same order.
        shown: References of the clips that the model was shown, if they are not the prompts' own clips.
        free_text: Whether the references are free text. Scores of the exercise are then None.

    Returns:
        ``n``; ``exercise_accuracy`` (the part before ``" - "``); ``feedback_accuracy`` (the part after it, over the
        ``n_feedback`` references with such a part; None if there are none); ``rougeL`` (mean F-measure);
        ``exercise_macro_f1`` over the exercises of the references; ``shown_exercise_accuracy`` (with ``shown``: how
        often the answer names the shown exercise); ``per_exercise``: n and both accuracies of each exercise.

    Raises:
        InputError: If there is nothing to score.
        ValueError: If the lists differ in length.
    """
    if not references:
        raise InputError("the test split is empty: there is no answer to score; raise annotations.split.test")
    right = [split_answer(text, free_text) for text in references]
    given = [split_answer(text, free_text) for text in predictions]
    pairs = list(zip(right, given, strict=True))
    scores = _accuracies(pairs) | {"rougeL": _rouge_l(references, predictions)}
    if free_text:
        return scores | {"exercise_accuracy": None, "exercise_macro_f1": None, "per_exercise": {}}
    per_exercise = {
        exercise: _accuracies([pair for pair in pairs if pair[0][0] == exercise])
        for exercise in sorted({exercise for exercise, _ in right})
    }
    names = [[exercise for exercise, _ in answers] for answers in (right, given)]
    f1 = f1_score(names[0], names[1], labels=list(per_exercise), average="macro", zero_division=0)  # type: ignore
    scores["exercise_macro_f1"] = float(f1)
    if shown is not None:
        hits = [split_answer(text)[0] == exercise for text, (exercise, _) in zip(shown, given, strict=True)]
        scores["shown_exercise_accuracy"] = sum(hits) / len(hits)
    return scores | {"per_exercise": per_exercise}


def _accuracies(pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]) -> dict:
    """Compare exercise and feedback of reference and answer, a pair of split answers for each sample."""
    exercises = [reference[0] == answer[0] for reference, answer in pairs]
    # Only references with feedback count, so that an empty feedback is never right.
    feedback = [reference[1] == answer[1] for reference, answer in pairs if reference[1]]
    return {
        "n": len(exercises),
        "exercise_accuracy": sum(exercises) / len(exercises),
        "n_feedback": len(feedback),
        "feedback_accuracy": sum(feedback) / len(feedback) if feedback else None,
    }


def _rouge_l(references: Sequence[str], predictions: Sequence[str]) -> float:
    scorer = RougeScorer(["rougeL"], tokenizer=WordTokenizer())
    measures = [scorer.score(r, p)["rougeL"].fmeasure for r, p in zip(references, predictions, strict=True)]
    return sum(measures) / len(measures)
