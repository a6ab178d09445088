"""The model card of an adapter or an export: what it is, what it was trained on, how good it is, how to load it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.evaluated_run import read_metrics
from mobilevideogpt.evaluation.formatting import percent
from mobilevideogpt.files import write_text
from mobilevideogpt.model.model_paths import ADAPTER_FILES, DOWNLOADS
from mobilevideogpt.serving.finetuned import Finetuned, settings_of
from mobilevideogpt.serving.templates import template

SOURCES = {"base": "Base", "finetuned": "Fine-tuned", "mismatched_video": "Control: another clip shown"}
MEASURES = {
    "exercise_accuracy": "Exercise accuracy",
    "feedback_accuracy": "Feedback accuracy",
    "set_f1": "F1 of the labels",
    "rougeL": "ROUGE-L",
}
SHARES = ("exercise_accuracy", "feedback_accuracy")
SHOWN_SETTINGS = (
    *("method", "quantization", "epochs", "effective_batch_size", "learning_rate", "projector_learning_rate"),
    *("lr_scheduler", "lora_r", "lora_alpha", "lora_dropout", "precision", "seed"),
)
LIBRARIES = ("torch", "transformers", "peft", "deepspeed")
PRIVATE = ("host", "processes")  # of ``this_run`` in a run record


def hub_name(path: str) -> str:
    """Return the hub's name of a path that `snakemake fetch` filled; other paths as they are."""
    return path.partition(f"{DOWNLOADS}/")[2] if f"{DOWNLOADS}/" in path else path


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run record without the names of machines, for others to read."""
    this_run = {name: value for name, value in record.get("this_run", {}).items() if name not in PRIVATE}
    return {**record, "this_run": this_run}


def write_card(finetuned: Finetuned, path: str | Path, kind: str) -> None:
    """Write the card, whole or not at all.

    Args:
        finetuned: What it describes. Scores are those in the run's folder, if they are this adapter's.
        path: Its file.
        kind: What lies beside it: ``adapter``, ``export`` or ``original-adapter``.
    """
    write_text(str(card(finetuned, kind)), path)


def card(finetuned: Finetuned, kind: str, name: str | None = None) -> ModelCard:
    """Return the card.

    Args:
        finetuned: What it describes.
        kind: See `write_card`.
        name: What to load it by in the example; by default the run's folder.
    """
    record, metrics = finetuned.record, _metrics(finetuned)
    settings = settings_of(finetuned.run)
    base = hub_name(str(record.get("base") or finetuned.paths.base))
    is_lora = finetuned.adapter is not None and (finetuned.adapter / ADAPTER_FILES[0]).is_file()
    finetune = settings.get("finetune", {})
    data = ModelCardData(
        model_name=finetuned.name,
        base_model=None if finetuned.is_toy else base,
        license="apache-2.0" if finetuned.is_toy else "cc-by-nc-sa-4.0",
        language="en",
        library_name="peft" if kind != "export" and is_lora else "transformers",
        pipeline_tag="video-text-to-text",
        tags=["mobile-videogpt", "video", "exercise-feedback", *(["lora"] if is_lora else [])],
        eval_results=_results(metrics) or None,
    )
    folder = {"export": "export", "original-adapter": "original-lora"}.get(kind)
    default = finetuned.run and (finetuned.run / folder if folder else finetuned.run)
    content = template("model_card.md.j2").render(
        card_data=data.to_yaml(),
        name=finetuned.name,
        kind=kind,
        base=base,
        is_toy=finetuned.is_toy,
        load_from=name or str(default or finetuned.name),
        record=record,
        prompt=finetuned.prompt,
        exercises=[exercise.replace("_", " ") for exercise in finetuned.exercises],
        clips=record.get("clips", {}),
        metrics=metrics,
        rows=_rows(metrics) if metrics else [],
        sources=[label for source, label in SOURCES.items() if metrics and metrics.get(source)],
        settings={name: finetune[name] for name in SHOWN_SETTINGS if name in finetune},
        split=settings.get("annotations", {}).get("split"),
        versions={name: version for name in LIBRARIES if (version := record.get("versions", {}).get(name))},
    )
    return ModelCard(content)


def _metrics(finetuned: Finetuned) -> dict | None:
    """Read the scores of this adapter; None if there are none, or those of an adapter before it."""
    path = finetuned.run and finetuned.run / "metrics.json"
    if not path or not path.is_file():
        return None
    try:
        metrics = read_metrics(path, "run `snakemake evaluate`")
    except InputError:
        return None
    return metrics if metrics.get("digest") == finetuned.record.get("digest") else None


def _rows(metrics: Mapping) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of scores: a measure and its value from each source."""
    sources = [source for source in SOURCES if metrics.get(source)]
    rows = []
    for name, label in MEASURES.items():
        values = [_value(metrics[source], name) for source in sources]
        if any(value != "–" for value in values):
            rows.append((label, values))
    return rows


def _value(scores: Mapping, name: str) -> str:
    value, interval = scores.get(name), scores.get("intervals", {}).get(name)
    if value is None:
        return "–"
    shown = percent if name in SHARES else "{:.2f}".format
    counts: Sequence[int] | None = scores.get("counts", {}).get(name)
    text = shown(value) + (f", {counts[0]:g} of {counts[1]}" if counts else "")
    return text + (f" ({shown(interval[0])} to {shown(interval[1])})" if interval else "")


def _results(metrics: Mapping | None) -> list[EvalResult]:
    if not metrics:
        return []
    scores = metrics["finetuned"]
    return [
        EvalResult(
            task_type="video-text-to-text",
            dataset_type="custom",
            dataset_name="test split of the run",
            metric_type=name,
            metric_name=label,
            metric_value=round(value, 4),
        )
        for name, label in MEASURES.items()
        if (value := scores.get(name)) is not None
    ]
