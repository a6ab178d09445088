"""The report of a run: one HTML file that contains everything it shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mobilevideogpt.data.frame_bounds import FrameBounds
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.cautions import cautions, dependence, dependent_clips, independence
from mobilevideogpt.evaluation.charts import learning_rate_curve, loss_curve
from mobilevideogpt.evaluation.clip_table import clip_rows, short_name
from mobilevideogpt.evaluation.conclusion import Conclusion, conclude
from mobilevideogpt.evaluation.formatting import duration, facts, p_value, percent, plural, points
from mobilevideogpt.evaluation.pages import template
from mobilevideogpt.evaluation.scoring import Task
from mobilevideogpt.files import write_text

SOURCES = {"base": "Base", "finetuned": "Fine-tuned", "mismatched_video": "Control"}
SET_F1 = ("Set F1", "F1 of the labels in an answer")
MEASURES = {
    "exercise_accuracy": ("Exercise accuracy", "the answer begins with the clip’s exercise"),
    "feedback_accuracy": ("Feedback accuracy", "the labels after the exercise, all of them, word for word"),
    "set_f1": SET_F1,
    "shown_exercise_accuracy": ("Shown exercise named", "the exercise of the clip shown instead"),
    "exercise_macro_f1": ("Exercise macro F1", "mean over the exercises"),
    "rougeL": ("ROUGE-L", "overlap with the reference, F-measure"),
}
FREE_TEXT_MEASURES = {
    "feedback_accuracy": ("Exact matches", "all labels of the reference, word for word"),
    "set_f1": SET_F1,
    "rougeL": MEASURES["rougeL"],
    "chrf": ("chrF", "sacrebleu, 0 to 100"),
    "bleu": ("BLEU", "sacrebleu, 0 to 100"),
}
SHARES = ("exercise_accuracy", "feedback_accuracy", "shown_exercise_accuracy")  # shown as a share of samples
TESTS = {
    "base": "against the base",
    "commonest": "against the commonest answer of the training split",
    "commonest_of_exercise": "against the commonest answer of each exercise",
    "commonest_of_question": "against the commonest answer to each question",
    "commonest_of_exercise_and_question": "against the commonest answer to each question about each exercise",
    "own_commonest": "against its own commonest answer, given to all",
    "chance": "against chance",
    "follows_shown_clip": "control: answers that follow the shown clip, against those that stay",
    "kept_answers_against_half": "control: unchanged answers, against a half",
}
MOST_COLUMNS = 12  # of a confusion matrix on the page; metrics.json contains them all
REPRODUCTION = ("git_revision", "digest", "adapter", "deepspeed", "world_size", "resumed_from", "versions")


def write_report(
    path: str | Path,
    *,
    train: Mapping,
    metrics: dict,
    predictions: Sequence[Mapping],
    train_samples: Sequence[Mapping],
    log: Sequence[Mapping],
    integrity: Mapping,
    preflight: Mapping,
    summary: Mapping,
    config: Mapping,
    notes: Sequence[str] = (),
    project: str | Path = ".",
    max_clips: int = 60,
    bounds: FrameBounds = FrameBounds(),  # noqa: B008 (immutable)
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        train: The run record, as `mobilevideogpt.training.finetune.finetune` returns it.
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.
        predictions: The rows that `evaluate` returns.
        train_samples: The training split, for the conclusion.
        log: The Trainer's log entries in order.
        integrity: ``checks``, and the ``clips`` with their status.
        preflight: As `mobilevideogpt.training.preflight.preflight` returns it.
        summary: Summary of the annotations: ``splits``, ``split`` (``notices``, ``leaks``), ``findings`` and
            ``near_duplicates``.
        config: The configuration that the run wrote when it trained the adapter.
        notes: More notes about the splits, in sentences.
        project: Folder that the clips' paths are relative to.
        max_clips: Most rows in the table of clips. Of more clips, those with wrong answers come first.
        bounds: How many frames of a clip the model saw.

    Raises:
        InputError: If there are no predictions.
    """
    if not predictions:
        raise InputError(
            f"{path}: there are no predictions to show; run `snakemake evaluate` with clips in the test split"
        )
    conclusion = conclude(predictions, train_samples)
    context = {
        "run": train["run"],
        **_score_context(conclusion, metrics),
        **_clip_context(
            predictions,
            conclusion.task,
            files={clip["video"]: clip["file"] for clip in integrity["clips"]},
            project=Path(project),
            page=Path(path),
            limit=max_clips,
            bounds=bounds,
        ),
        **_training_context(train, log, summary, config),
        **_data_context(integrity, summary, notes, metrics["finetuned"]["n"]),
        **_machine_context(preflight, train),
        "cautions": cautions(train=train, log=log, metrics=metrics, preflight=preflight, summary=summary),
        "reproduction": facts({key: train[key] for key in REPRODUCTION}),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }
    write_text(template("report.html.j2").render(context), path)


def _score_context(conclusion: Conclusion, metrics: Mapping) -> dict:
    task = conclusion.task
    sources = {name: label for name, label in SOURCES.items() if metrics[name]}
    confusion = metrics["finetuned"]["confusion"]
    matrices = [("Exercise", _spelled(confusion["exercise"], task))] if task.subject == "exercises" else []
    matrices += [(f"Feedback, {task.spelled(name)}", matrix) for name, matrix in confusion["feedback"].items()]
    return {
        "conclusion": conclusion,
        "task": task,
        "metrics": metrics,
        "sources": sources,
        "measures": FREE_TEXT_MEASURES if task.free_text else MEASURES,
        "share_measures": SHARES,
        "decisive": "exercise_accuracy" if task.subject == "exercises" else "feedback_accuracy",
        "matrices": [(name, matrix) for name, matrix in matrices if matrix["rows"]],
        "most_columns": MOST_COLUMNS,
        "test_names": TESTS,
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "plural": plural,
    }


def _spelled(matrix: Mapping, task: Task) -> dict:
    return {**matrix, "rows": [*map(task.spelled, matrix["rows"])], "columns": [*map(task.spelled, matrix["columns"])]}


def _clip_context(predictions: Sequence[Mapping], task: Task, **options: Any) -> dict:
    rows = clip_rows(predictions, task, **options)
    marked = any(frame.chosen for row in rows for frame in row.frames)
    wrong = sum(bool(row.wrong) for row in rows)
    return {"clips": rows, "total": len(predictions), "wrong": wrong, "short_name": short_name, "marked": marked}


def _training_context(train: Mapping, log: Sequence[Mapping], summary: Mapping, config: Mapping) -> dict:
    curves = {"Loss": loss_curve(log), "Learning rate": learning_rate_curve(log)}
    return {
        "train": train,
        "settings": config["finetune"],
        "seconds": duration(train["this_run"]["seconds"]),
        "splits": summary["splits"],
        "curves": [(title, curve) for title, curve in curves.items() if curve],
    }


def _data_context(integrity: Mapping, summary: Mapping, notes: Sequence[str], n_test: int) -> dict:
    split = summary["split"]
    return {
        "dependence": dependence(summary),
        "dependent_clips": dependent_clips(summary),
        "independence": independence(summary, n_test),
        "integrity": integrity,
        "statuses": Counter(clip["verdict"] for clip in integrity["clips"]),
        "troubled": [clip for clip in integrity["clips"] if clip["verdict"] != "ok"],
        "notes": [*split["notices"], *(f"leakage across splits: {leak}" for leak in split["leaks"]), *notes],
        "findings": summary["findings"],
    }


def _machine_context(preflight: Mapping, train: Mapping) -> dict:
    memory = {f"{kind}_peak_memory_bytes": preflight[f"{kind}_bytes"] for kind in ("predicted", "rehearsed")}
    return {
        "preflight": preflight,
        "machine": facts(memory | preflight["machine"] | train["this_run"]),
        "neither": () if preflight["machine"].get("gpus") else ("device",),  # no GPU: allowed, and no success
    }
