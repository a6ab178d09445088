"""The page of a run: one HTML file that needs nothing beside it."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.charts import learning_rate_curve, loss_curve
from mobilevideogpt.evaluation.conclusion import SMALL, percent, verdict
from mobilevideogpt.evaluation.grounding import exercise_of
from mobilevideogpt.evaluation.metrics import split_answer
from mobilevideogpt.files import write_text
from mobilevideogpt.video.decoding import read_frames

SOURCES = {"base": "Base", "finetuned": "Fine-tuned", "mismatched_video": "Control"}
MEASURES = {
    "exercise_accuracy": ("Exercise right", "the part before “ - ”"),
    "feedback_accuracy": ("Feedback right", "the part after “ - ”, word for word"),
    "shown_exercise_accuracy": ("Names the shown clip", "the exercise of the clip shown instead"),
    "exercise_macro_f1": ("Macro F1", "of the exercise, each one counting the same"),
    "rougeL": ("ROUGE-L", "overlap with the reference, F-measure"),
}
REPRODUCTION = ("git_revision", "digest", "adapter", "deepspeed", "world_size", "resumed_from", "versions")


def thumbnails(path: str | Path, count: int = 4, width: int = 160) -> list[dict]:
    """Frames spread over those that the model sees.

    Returns:
        For each its ``src`` (a JPEG as data URI), ``seconds`` into the clip, and ``width`` and ``height`` in pixels.
    """
    frames, indices, info = read_frames(path)
    pictures = []
    for i in sorted({round((k + 0.5) * len(frames) / count - 0.5) for k in range(count)}):
        picture = Image.fromarray(frames[i])
        picture.thumbnail((width, width))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=78, optimize=True)
        source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
        size = {"width": picture.width, "height": picture.height}
        pictures.append({"src": source, "seconds": indices[i] / info.fps} | size)
    return pictures


FREE_MEASURES = {
    "feedback_accuracy": ("Answer right", "word for word"),
    "rougeL": MEASURES["rougeL"],
}


def _marks(reference: str, answer: str, shown: str | None = None, free: bool = False) -> list[dict]:
    """What is right and wrong about an answer, as short texts; the control's answer is held against the shown clip."""
    if free:
        same = split_answer(reference, free) == split_answer(answer, free)
        if shown is None:
            return [{"ok": same, "text": "word for word"}]
        return [{"ok": False, "text": "keeps to its own clip"}] if same else []
    exercise, feedback = split_answer(reference)
    given, advice = split_answer(answer)
    if shown is not None:
        seen = split_answer(shown)[0]
        if given == seen:
            return [{"ok": True, "text": "names what was shown"}]
        return [{"ok": False, "text": "keeps to its own clip" if given == exercise else "names neither"}]
    marks = [{"ok": given == exercise, "text": "exercise"}]
    return [*marks, {"ok": advice == feedback, "text": "feedback"}] if feedback else marks


def _clips(predictions: Sequence[dict], project: Path, limit: int, free: bool) -> list[dict]:
    """The table's rows: all clips, or those with a wrong answer first where they are more than ``limit``."""
    references = {row["video"]: row["reference"] for row in predictions}

    def row(record: dict) -> dict:
        answers = {
            name: {"text": record[name], "marks": _marks(record["reference"], record[name], free=free)}
            for name in SOURCES
        }
        shown = record["shown_video"]
        answers["mismatched_video"]["marks"] = _marks(
            record["reference"], record["mismatched_video"], references.get(shown, exercise_of(shown)), free
        )
        return {
            "video": record["video"],
            "prompt": record["prompt"].replace("<video>", "").strip(),
            "reference": record["reference"],
            "name": "/".join(PurePosixPath(record["video"]).parts[-2:]),
            "shown_name": "/".join(PurePosixPath(shown).parts[-2:]),
            "shown_reference": references.get(shown),
            "answers": answers,
            "wrong": sum(not mark["ok"] for mark in answers["finetuned"]["marks"]),
        }

    rows = [row(record) for record in predictions]
    if len(rows) > limit:
        rows = sorted(rows, key=lambda row: -row["wrong"])[:limit]
    for row in rows:
        try:
            row["frames"] = thumbnails(project / row["video"])
        except InputError as error:  # a clip that went missing must not cost the page
            row["frames"], row["problem"] = [], str(error)
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


def facts(values: dict) -> list[tuple[str, str]]:
    """Names and values as a reader would say them: ``memory_bytes`` becomes ``Memory`` in GB."""
    rows = []
    for key, value in values.items():
        unit = "bytes" if key.endswith("_bytes") else ""
        words = [{"cpu": "CPU", "gpus": "GPUs", "cuda": "CUDA"}.get(word, word) for word in key.split("_")]
        name = " ".join(words[:-1] if unit else words)
        rows.append((name[:1].upper() + name[1:], _value(value, unit)))
    return rows


def duration(seconds: float) -> str:
    """``4000`` as ``1 h 7 min``."""
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def write_report(
    path: str | Path,
    *,
    train: dict,
    metrics: dict,
    predictions: Sequence[dict],
    log: Sequence[dict],
    verify: dict,
    preflight: dict,
    config: dict,
    splits: dict[str, int],
    notes: Sequence[str] = (),
    findings: Sequence[dict] = (),
    project: str | Path = ".",
    max_clips: int = 60,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        train: What `mobilevideogpt.training.finetune.finetune` returned.
        metrics: What `mobilevideogpt.evaluation.evaluate.evaluate` returned.
        predictions: Its rows, one a test clip.
        log: Trainer records in order.
        verify: The integrity report: ``checks`` and ``clips``.
        preflight: What `mobilevideogpt.training.preflight` found: facts on the machine, and checks.
        config: The resolved configuration.
        splits: Clips in train, val and test.
        notes: What is to be known of the splits, in sentences.
        findings: What was passed over or guessed: ``reason``, ``count`` and ``items`` each.
        project: Folder that the clips' paths start from.
        max_clips: Rows in the table of clips; beyond, those with a wrong answer come first.

    Raises:
        InputError: If there are no predictions.
    """
    if not predictions:
        raise InputError(f"{path}: no predictions to show; run `snakemake evaluate` with clips in the test split")
    memory = {f"{kind}_peak_memory_bytes": preflight[f"{kind}_bytes"] for kind in ("predicted", "rehearsed")}
    verdicts = Counter(clip["verdict"] for clip in verify["clips"])
    page = Environment(
        loader=PackageLoader("mobilevideogpt.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.j2")
    free = metrics["settings"].get("answers", "labels") != "labels"
    clips = _clips(predictions, Path(project), max_clips, free)
    text = page.render(
        run=train["run"],
        verdict=verdict(metrics),
        metrics=metrics,
        named=metrics["settings"]["prompt_names_exercise"] or free,
        free=free,
        small=metrics["finetuned"]["n"] < SMALL,
        sources=SOURCES,
        measures=FREE_MEASURES if free else MEASURES,
        percent=percent,
        clips=clips,
        total=len(predictions),
        curves=[
            (title, curve)
            for title, curve in (("Loss", loss_curve(log)), ("Learning rate", learning_rate_curve(log)))
            if curve
        ],
        splits=splits,
        notes=notes,
        findings=findings,
        train=train,
        settings=config["finetune"],
        seconds=duration(train["this_run"]["seconds"]),
        verify=verify,
        verdicts=verdicts,
        troubled=[clip for clip in verify["clips"] if clip["verdict"] != "ok"],
        preflight=preflight,
        machine=facts(memory | preflight["machine"] | train["this_run"]),
        reproduction=facts({key: train[key] for key in REPRODUCTION}),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )
    write_text(text, path)
