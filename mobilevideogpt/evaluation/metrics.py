"""Scores of generated answers, with intervals, tables by exercise and confusion matrices."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sklearn.metrics import f1_score

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.scoring import Task, fold, group_of, labels, named_exercise, set_f1
from mobilevideogpt.evaluation.statistics import Share, share

OTHER = "(other)"  # the column of a confusion matrix for all that is no row of it
UNNAMED = "(none)"


class WordTokenizer:
    """Splits a text of any script into words, for ROUGE; the default of `rouge_score` finds only a to z."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).lower())


def judge(rows: Sequence[Mapping], source: str, task: Task) -> pd.DataFrame:
    """Judge the answers of one source, a row each.

    Args:
        rows: The predictions.
        source: ``base``, ``finetuned`` or ``mismatched_video``.
        task: What the answers are about.

    Returns:
        ``group``, ``exercise`` (of the clip), ``named`` (exercise of the answer, or None), ``exercise_right``;
        ``reference`` and ``answer`` (the feedback as sorted text), ``feedback_right`` (sets are equal), ``set_f1``,
        both NaN where the reference has no feedback; ``rougeL``. Of free text, the feedback is the whole answer.
    """
    scorer = RougeScorer(["rougeL"], tokenizer=WordTokenizer())
    table = []
    for row in rows:
        reference, answer = task.feedback(row["reference"]), task.feedback(row[source])
        named = None if task.free_text else named_exercise(row[source], task.exercises)
        table.append(
            {
                "group": group_of(row),
                "exercise": fold(row["exercise"]),
                "named": named and fold(named),
                "exercise_right": bool(named) and fold(named) == fold(row["exercise"]),
                "reference": "; ".join(sorted(reference)),
                "answer": "; ".join(sorted(answer)),
                "feedback_right": float(reference == answer) if reference else float("nan"),
                "set_f1": set_f1(reference, answer) if reference else float("nan"),
                "rougeL": scorer.score(row["reference"], row[source])["rougeL"].fmeasure,
            }
        )
    return pd.DataFrame(table)


def score(rows: Sequence[Mapping], source: str, task: Task) -> dict:
    """Score the answers of one source against the references.

    Every share is the mean over groups; ``intervals`` holds its 95 % interval, ``counts`` the correct samples and all.

    Args:
        rows: The predictions.
        source: ``base``, ``finetuned`` or ``mismatched_video``.
        task: What the answers are about.

    Returns:
        ``n`` and ``groups``; ``exercise_accuracy``; ``feedback_accuracy`` (sets of labels are equal) and ``set_f1``,
        over the ``n_feedback`` references with feedback (None if there are none); ``rougeL`` (mean F-measure), ``chrf``
        and ``bleu`` (sacrebleu, 0 to 100, over all answers); ``exercise_macro_f1`` over the exercises of the
        references; ``cut``: share of answers without an end; ``per_exercise``; ``confusion``. Scores of the exercise
        are None for free text.

    Raises:
        InputError: If there is nothing to score.
    """
    if not rows:
        raise InputError("the test split is empty: there is no answer to score; raise annotations.split.test")
    judged = judge(rows, source, task)
    answers, references = [row[source] for row in rows], [row["reference"] for row in rows]
    scores = {
        **_shares(judged, task),
        "rougeL": float(judged.rougeL.mean()),
        "chrf": CHRF().corpus_score(answers, [references]).score,
        "bleu": BLEU().corpus_score(answers, [references]).score,
        "exercise_macro_f1": None,
        "cut": sum(bool(row.get("cut", {}).get(source)) for row in rows) / len(rows),
        "per_exercise": {
            str(exercise): _shares(part, task) for exercise, part in judged.groupby("exercise", sort=True)
        },
        "confusion": confusion(judged, task),
    }
    if not task.free_text:
        named = judged.named.fillna(UNNAMED)
        names = sorted(judged.exercise.unique())
        f1 = f1_score(judged.exercise, named, labels=names, average="macro", zero_division=0)  # type: ignore
        scores["exercise_macro_f1"] = float(f1)
    return scores


def _shares(judged: pd.DataFrame, task: Task) -> dict:
    """Accuracies and set F1 with their intervals, over a part of the answers."""
    with_feedback = judged[judged.feedback_right.notna()]
    measures: dict[str, Share] = {}
    if not task.free_text:
        measures["exercise_accuracy"] = share(list(judged.exercise_right), list(judged.group))
    if len(with_feedback):
        measures["feedback_accuracy"] = share(list(with_feedback.feedback_right), list(with_feedback.group))
        measures["set_f1"] = share(list(with_feedback.set_f1), list(with_feedback.group))
    values = {
        name: measures[name].value if name in measures else None
        for name in ("exercise_accuracy", "feedback_accuracy", "set_f1")
    }
    return {
        "n": len(judged),
        "groups": int(judged.group.nunique()),
        "n_feedback": len(with_feedback),
        **values,
        "intervals": {name: list(measure.interval) for name, measure in measures.items()},
        "counts": {name: [round(m.hits), m.n] for name, m in measures.items() if name != "set_f1"},
    }


def confusion(judged: pd.DataFrame, task: Task) -> dict:
    """Count answers by what is right.

    Returns:
        ``exercise`` (None for free text) and ``feedback``, one for each exercise. Each has ``rows`` (right answers),
        ``columns`` (given answers; the last ones are `UNNAMED` and `OTHER`) and ``counts``.
    """
    feedback = {
        str(exercise): _crosstab(part.reference, part.answer)
        for exercise, part in judged[judged.feedback_right.notna()].groupby("exercise", sort=True)
    }
    if task.free_text:
        return {"exercise": None, "feedback": feedback}
    return {"exercise": _crosstab(judged.exercise, judged.named.fillna(UNNAMED)), "feedback": feedback}


def _crosstab(right: pd.Series, given: pd.Series) -> dict:
    """Cross-tabulate; answers that are right for no row count as `OTHER`."""
    rows = sorted(right.unique())
    given = given.where(given.isin([*rows, UNNAMED]), OTHER)
    extra = [name for name in (UNNAMED, OTHER) if (given == name).any()]
    table = pd.crosstab(right, given).reindex(index=rows, columns=[*rows, *extra], fill_value=0)
    return {"rows": rows, "columns": list(table.columns), "counts": table.to_numpy().tolist()}


def predictions_csv(rows: Sequence[Mapping], task: Task) -> str:
    """Return the predictions as CSV: what a row holds, and whether each answer is right and was cut."""
    table = pd.DataFrame([{name: value for name, value in row.items() if name != "cut"} for row in rows])
    for source in ("base", "finetuned", "mismatched_video"):
        answered = [isinstance(row.get(source), str) for row in rows]
        if not all(answered):
            continue
        judged = judge(rows, source, task)
        if not task.free_text:
            table[f"{source}_exercise_right"] = judged.exercise_right
        table[f"{source}_feedback_right"] = judged.feedback_right.map({1.0: True, 0.0: False})
        table[f"{source}_set_f1"] = judged.set_f1.round(4)
        table[f"{source}_cut"] = [bool(row.get("cut", {}).get(source)) for row in rows]
    return table.to_csv(index=False, lineterminator="\n")


def control_scores(rows: Sequence[Mapping], task: Task) -> dict:
    """What the control's answers share with those for the prompt's own clip, beside `score`.

    Returns:
        ``shown_exercise_accuracy`` and ``kept_exercise`` (None for free text): how often the answer names the exercise
        of the shown clip, and the same as before; ``kept_answer``: how often the labels did not change.
    """
    groups = [group_of(row) for row in rows]
    same = [labels(row["finetuned"]) == labels(row["mismatched_video"]) for row in rows]
    scores = {"shown_exercise_accuracy": None, "kept_exercise": None, "kept_answer": share(same, groups).value}
    if task.free_text:
        return scores
    before, after = (
        [named_exercise(row[source], task.exercises) for row in rows] for source in ("finetuned", "mismatched_video")
    )
    shown = [bool(name) and fold(name) == fold(row["shown_exercise"]) for name, row in zip(after, rows, strict=True)]
    kept = [a == b for a, b in zip(before, after, strict=True)]
    return scores | {
        "shown_exercise_accuracy": share(shown, groups).value,
        "kept_exercise": share(kept, groups).value,
    }
