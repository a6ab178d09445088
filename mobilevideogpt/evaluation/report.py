"""The report of a run: one HTML file that contains everything it shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.charts import learning_rate_curve, loss_curve
from mobilevideogpt.evaluation.clip_table import clip_rows, short_name
from mobilevideogpt.evaluation.conclusion import conclude
from mobilevideogpt.evaluation.formatting import duration, facts, percent
from mobilevideogpt.evaluation.metrics import feedback_decides, is_free_text
from mobilevideogpt.files import write_text

SOURCES = {"base": "Base", "finetuned": "Fine-tuned", "mismatched_video": "Control"}
ROUGE = ("ROUGE-L", "overlap with the reference, F-measure")
MEASURES = {
    "exercise_accuracy": ("Exercise accuracy", "the part before “ - ”"),
    "feedback_accuracy": ("Feedback accuracy", "the part after “ - ”, word for word"),
    "shown_exercise_accuracy": ("Shown exercise named", "the exercise of the clip shown instead"),
    "exercise_macro_f1": ("Exercise macro F1", "mean over the exercises"),
    "rougeL": ROUGE,
}
FREE_TEXT_MEASURES = {"feedback_accuracy": ("Exact matches", "word for word"), "rougeL": ROUGE}
REPRODUCTION = ("git_revision", "digest", "adapter", "deepspeed", "world_size", "resumed_from", "versions")


def write_report(
    path: str | Path,
    *,
    train: Mapping,
    metrics: dict,
    predictions: Sequence[Mapping],
    log: Sequence[Mapping],
    integrity: Mapping,
    preflight: Mapping,
    summary: Mapping,
    config: Mapping,
    notes: Sequence[str] = (),
    project: str | Path = ".",
    max_clips: int = 60,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        train: The run record, as `mobilevideogpt.training.finetune.finetune` returns it.
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.
        predictions: The rows that `evaluate` returns.
        log: The Trainer's log entries in order.
        integrity: ``checks``, and the ``clips`` with their status.
        preflight: As `mobilevideogpt.training.preflight.preflight` returns it.
        summary: Summary of the annotations: ``splits``, ``split`` (``notices``, ``leaks``) and ``findings``.
        config: The resolved configuration.
        notes: More notes about the splits, in sentences.
        project: Folder that the clips' paths are relative to.
        max_clips: Most rows in the table of clips. Of more clips, those with wrong answers come first.

    Raises:
        InputError: If there are no predictions.
    """
    if not predictions:
        raise InputError(
            f"{path}: there are no predictions to show; run `snakemake evaluate` with clips in the test split"
        )
    context = {
        "run": train["run"],
        "conclusion": conclude(metrics),
        **_score_context(metrics),
        **_clip_context(predictions, Path(project), max_clips, is_free_text(metrics["settings"]["answers"])),
        **_training_context(train, log, summary, config),
        **_data_context(integrity, summary, notes),
        **_machine_context(preflight, train),
        "reproduction": facts({key: train[key] for key in REPRODUCTION}),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }
    write_text(_template().render(context), path)


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("mobilevideogpt.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _score_context(metrics: Mapping) -> dict:
    free_text = is_free_text(metrics["settings"]["answers"])
    return {
        "metrics": metrics,
        "free_text": free_text,
        "feedback_decides": feedback_decides(metrics["settings"]),
        "sources": SOURCES,
        "measures": FREE_TEXT_MEASURES if free_text else MEASURES,
        "percent": percent,
    }


def _clip_context(predictions: Sequence[Mapping], project: Path, limit: int, free_text: bool) -> dict:
    rows = clip_rows(predictions, project, limit, free_text)
    return {"clips": rows, "total": len(predictions), "short_name": short_name}


def _training_context(train: Mapping, log: Sequence[Mapping], summary: Mapping, config: Mapping) -> dict:
    curves = {"Loss": loss_curve(log), "Learning rate": learning_rate_curve(log)}
    return {
        "train": train,
        "settings": config["finetune"],
        "seconds": duration(train["this_run"]["seconds"]),
        "splits": summary["splits"],
        "curves": [(title, curve) for title, curve in curves.items() if curve],
    }


def _data_context(integrity: Mapping, summary: Mapping, notes: Sequence[str]) -> dict:
    split = summary["split"]
    return {
        "integrity": integrity,
        "statuses": Counter(clip["verdict"] for clip in integrity["clips"]),
        "troubled": [clip for clip in integrity["clips"] if clip["verdict"] != "ok"],
        "notes": [*split["notices"], *(f"leakage across splits: {leak}" for leak in split["leaks"]), *notes],
        "findings": summary["findings"],
    }


def _machine_context(preflight: Mapping, train: Mapping) -> dict:
    memory = {f"{kind}_peak_memory_bytes": preflight[f"{kind}_bytes"] for kind in ("predicted", "rehearsed")}
    return {"preflight": preflight, "machine": facts(memory | preflight["machine"] | train["this_run"])}
