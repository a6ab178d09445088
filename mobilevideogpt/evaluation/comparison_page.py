"""The page of a comparison of runs, one HTML file, and the JSON file with the same content."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.charts import legend, loss_curves
from mobilevideogpt.evaluation.clip_table import Badge, Thumbnail, judgements, short_name, thumbnails
from mobilevideogpt.evaluation.comparison import COLUMNS, DifferingSample, RunComparison, compare_runs
from mobilevideogpt.evaluation.differences import (
    DataOfRuns,
    circumstances_that_differ,
    data_of,
    settings_that_differ,
)
from mobilevideogpt.evaluation.evaluated_run import EvaluatedRun
from mobilevideogpt.evaluation.formatting import duration, p_value, percent, plural, points, value_text
from mobilevideogpt.evaluation.pages import template
from mobilevideogpt.evaluation.report import FREE_TEXT_MEASURES, MEASURES, SHARES
from mobilevideogpt.evaluation.scoring import Task
from mobilevideogpt.evaluation.shared_samples import REMEDY
from mobilevideogpt.files import write_json, write_text

TONES = {"good": "Decided", "mixed": "In part", "open": "Cannot tell"}
ALWAYS = (
    "The tests compare these adapters, not their settings: with another seed, the same settings train another adapter.",
    "A run that is chosen by these scores was chosen on the test clips, so its own score is too high for new clips.",
)


@dataclass(frozen=True)
class AnswerOfRun:
    """A run's answer about a clip; ``value`` is the decisive measure as text."""

    run: str
    text: str
    badges: Sequence[Badge]
    cut: bool
    value: str


@dataclass
class DifferingRow:
    """A row of the table; ``frames`` is empty if the clip cannot be read, and ``problem`` says why."""

    video: str
    exercise: str
    reference: str
    prompts: Mapping[str, Sequence[str]]  # prompt to the runs that were asked it
    answers: Sequence[AnswerOfRun]
    frames: Sequence[Thumbnail] = field(default_factory=list)
    problem: str = ""
    link: str = ""


def write_comparison(
    page: str | Path,
    record: str | Path,
    *,
    runs: Sequence[EvaluatedRun],
    results: str | Path,
    project: str | Path = ".",
    files: Mapping[str, str] | None = None,
    max_clips: int = 40,
) -> list[str]:
    """Compare runs and write the page and the JSON file, each whole or not at all.

    Args:
        page: The HTML file.
        record: The JSON file.
        runs: The runs, in the order of the columns.
        results: Folder of the runs, for links to their own pages.
        project: Folder that the clips' paths are relative to.
        files: Clip to the file that the models saw, where that is not the clip itself.
        max_clips: Most rows in the table of clips. Of more, those with the largest difference come first.

    Returns:
        The conclusion in lines for the terminal.

    Raises:
        InputError: If the runs share no test sample that can be compared.
    """
    compared, data = compare_runs(runs), data_of(runs)
    settings, circumstances = settings_that_differ(runs), circumstances_that_differ(runs)
    limits = _limits(runs, compared, data)
    write_json(
        compared.to_json()
        | {
            "limits": limits,
            "runs": [_run_json(run) for run in runs],
            "settings": [asdict(row) for row in settings],
            "circumstances": [asdict(row) for row in circumstances],
            "data": asdict(data),
            "losses": {run.name: _losses(run) for run in runs},
        },
        record,
    )
    logs = {run.name: run.log for run in runs}
    curves = {"Training loss": loss_curves(logs, "loss"), "Validation loss": loss_curves(logs, "eval_loss")}
    rows = [_row(sample, compared.task, compared.decisive) for sample in compared.differing[:max_clips]]
    for row in rows:
        _show(row, Path(project), (files or {}).get(row.video, row.video), Path(page).parent)
    context = {
        "compared": compared,
        "names": compared.runs,
        "tone_text": TONES[compared.tone],
        "limits": limits,
        "refusal": [*compared.shared.refusal(), REMEDY] if not compared.shared.same_split else [],
        "runs": [_run_context(run, Path(results), Path(page).parent) for run in runs],
        "settings": settings,
        "circumstances": circumstances,
        "data": data,
        "curves": [(title, curve) for title, curve in curves.items() if curve],
        "legend": legend(compared.runs),
        "measures": {
            name: text for name, text in _measures(compared.task).items() if name in COLUMNS or name in SCORED
        },
        "share_measures": SHARES,
        "clips": rows,
        "total": len(compared.differing),
        "several_prompts": len({row["prompt"] for rows in compared.shared.rows.values() for row in rows}) > 1,
        "groups": len({row["group"] for row in compared.shared.rows[compared.runs[0]]}),
        "short_name": short_name,
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "plural": plural,
        "value_text": value_text,
    }
    write_text(template("compare.html.j2").render(context), page)
    return [compared.headline + ".", *compared.sentences[:2], *compared.shared.refusal()[:1]]


SCORED = ("exercise_macro_f1", "chrf", "bleu")  # without a paired test


def _measures(task: Task) -> Mapping[str, tuple[str, str]]:
    return (
        FREE_TEXT_MEASURES if task.free_text else {k: v for k, v in MEASURES.items() if k != "shown_exercise_accuracy"}
    )


def _limits(runs: Sequence[EvaluatedRun], compared: RunComparison, data: DataOfRuns) -> list[str]:
    """What the reader should know before trusting the tests, in sentences."""
    shared, found = compared.shared, []
    if len({run.train["digest"] for run in runs}) < len(runs):
        found.append("Some of the runs have the same digest: they are one training, and differ by chance alone.")
    prompts = [frozenset(row["prompt"] for row in rows) for rows in shared.rows.values()]
    if len(set(prompts)) > 1:
        found.append("The runs were asked with different prompts. A difference may come from the prompt alone.")
    if shared.unknown:
        names = ", ".join(shared.unknown)
        found.append(
            f"{names}: the run does not say which clips it was trained on, so it is unknown whether these include test "
            "clips of another run, and whether the validation losses are of the same clips. `snakemake finetune` with "
            "the settings of the run writes it."
        )
    if n := len(shared.seen_by_all):
        found.append(
            f"All runs were trained or validated on the recording or person of {plural(n, 'shared test sample')}. The "
            "scores may be too high, and all intervals too narrow."
        )
    if data.same("val") is False:
        found.append("The validation clips or their answers differ, so the validation losses cannot be compared.")
    return [*found, *ALWAYS]


def _losses(run: EvaluatedRun) -> dict[str, list[tuple[int, float]]]:
    return {key: [(row["step"], row[key]) for row in run.log if key in row] for key in ("loss", "eval_loss")}


def _run_json(run: EvaluatedRun) -> dict:
    names = ("digest", "base", "epochs", "steps", "losses", "this_run")
    conclusion = {name: run.metrics["conclusion"].get(name) for name in ("learned", "looks", "tone", "headline")}
    record = {name: run.train.get(name) for name in names}
    return {"name": run.name, **record, "conclusion": conclusion, "tokens_per_second": run.metrics["tokens_per_second"]}


def _run_context(run: EvaluatedRun, results: Path, folder: Path) -> dict:
    report = results / run.name / "report.html"
    kept = (run.train.get("adapters") or {}).get(run.train.get("kept"), {})
    return {
        "name": run.name,
        "headline": run.metrics["conclusion"].get("headline", ""),
        "report": _link(report, folder) if report.is_file() else "",
        "steps": run.train["steps"],
        "epochs": f"{run.train['epochs']:g}",
        "first": run.train["losses"].get("val_first"),
        "kept": kept.get("val_loss"),
        "seconds": duration(run.train["this_run"]["seconds"]),
        "tokens_per_second": run.metrics["tokens_per_second"].get("finetuned"),
        "cut": run.metrics["finetuned"].get("cut"),
    }


def _row(sample: DifferingSample, task: Task, decisive: str) -> DifferingRow:
    prompts: dict[str, list[str]] = {}
    answers = []
    for run, row in sample.predictions.items():
        prompts.setdefault(row["prompt"].replace("<video>", "").strip(), []).append(run)
        value = sample.values[run]
        shown = "" if value is None or decisive in SHARES else f"{MEASURES[decisive][0]} {value:.2f}"
        cut = bool((row.get("cut") or {}).get("finetuned"))
        answers.append(AnswerOfRun(run, row["finetuned"], judgements(row, row["finetuned"], task), cut, shown))
    first = next(iter(sample.predictions.values()))
    return DifferingRow(first["video"], first["exercise"], first["reference"], prompts, answers)


def _show(row: DifferingRow, project: Path, file: str, folder: Path) -> None:
    """Add the frames, and a link to the clip."""
    try:
        row.frames = thumbnails(project / file, count=4)
    except InputError as error:  # a clip that is gone does not prevent the page
        row.problem = str(error)
        return
    row.link = _link(project / file, folder)


def _link(file: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(file, folder)).as_posix())
