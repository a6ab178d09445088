"""Scores of generated feedback.

An answer reads ``"<exercise> - <feedback>"``, and names may hold hyphens themselves; or it is free text, of which no
part is an exercise.
"""

import re
import unicodedata
from collections.abc import Sequence

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

from mobilevideogpt.errors import InputError


def normalise(text: str) -> str:
    """Fold case, underscores and runs of white space, and drop punctuation at the end: what a comparison ignores.

    So is the composition of an accented letter, as the tokenizer composes them all (Unicode's NFC).
    """
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", text)).strip().rstrip(".!?,;:").rstrip().casefold()


class Words:
    """The words of a text of any script, for ROUGE; `rouge_score` by itself sees those in a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).lower())


def split_answer(text: str, free: bool = False) -> tuple[str, str]:
    """The exercise and the feedback of an answer, both normalised; without ``" - "`` all of it is the exercise.

    Of ``free`` text, all is the feedback.
    """
    if free:
        return "", normalise(text)
    exercise, _, feedback = text.partition(" - ")
    return normalise(exercise), normalise(feedback)


def score(
    references: Sequence[str], predictions: Sequence[str], shown: Sequence[str] | None = None, free: bool = False
) -> dict:
    """Compare predictions with references.

    Args:
        references: The right answers.
        predictions: What the model answered, in the same order.
        shown: References of the clips that the model was shown, where those are not its own.
        free: The references are free text: there are no scores of the exercise (None), and the feedback is all of it.

    Returns:
        ``n``; ``exercise_accuracy`` (before the first ``" - "``); ``feedback_accuracy`` (after it, over the
        ``n_feedback`` references that have such a part, None if none has); ``rougeL`` (mean F-measure);
        ``exercise_macro_f1`` over the exercises of the references; with ``shown`` also ``shown_exercise_accuracy``, how
        often the answer names the exercise that was shown; ``per_exercise`` with n and both accuracies of each.

    Raises:
        InputError: If there is nothing to score.
        ValueError: If the lists differ in length.
    """
    if not references:
        raise InputError("there is no answer to score; give the test split at least one clip (annotations.split.test)")
    right = [split_answer(text, free) for text in references]
    given = [split_answer(text, free) for text in predictions]
    table = pd.DataFrame(
        {
            "exercise": [r[0] for r in right],
            "named": [r[0] == g[0] for r, g in zip(right, given, strict=True)],
            # missing where the reference says nothing after the exercise, so that silence is not counted as right
            "advised": [float(r[1] == g[1]) if r[1] else None for r, g in zip(right, given, strict=True)],
        }
    ).astype({"advised": float})

    def accuracies(rows: pd.DataFrame) -> dict:
        feedback = rows["advised"].dropna()
        return {
            "n": len(rows),
            "exercise_accuracy": float(rows["named"].mean()),
            "n_feedback": len(feedback),
            "feedback_accuracy": float(feedback.mean()) if len(feedback) else None,
        }

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    rouge = [scorer.score(r, p)["rougeL"].fmeasure for r, p in zip(references, predictions, strict=True)]
    scores = accuracies(table) | {"rougeL": sum(rouge) / len(rouge)}
    if free:
        return scores | {"exercise_accuracy": None, "exercise_macro_f1": None, "per_exercise": {}}
    per_exercise = {str(exercise): accuracies(rows) for exercise, rows in table.groupby("exercise")}
    names = [[pair[0] for pair in pairs] for pairs in (right, given)]
    f1 = float(f1_score(*names, labels=list(per_exercise), average="macro", zero_division=0))
    scores["exercise_macro_f1"] = f1
    if shown is not None:
        hits = [split_answer(text)[0] == g[0] for text, g in zip(shown, given, strict=True)]
        scores["shown_exercise_accuracy"] = sum(hits) / len(hits)
    return scores | {"per_exercise": per_exercise}
