"""What a call of Snakemake works on, what it made with which figures, and what to type next. Standard library only."""

from collections.abc import Collection, Mapping
from pathlib import Path

from mobilevideogpt.command_line import CommandLine
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, remade_by

OF_A_RUN = {"all", "finetune", "evaluate", "report"}  # targets that concern one run
TRAINED = {"losses": dict, "kept": str, "adapters": {str: dict}}
SCORES = {"base": (dict, None), "finetuned": dict, "mismatched_video": (dict, None), "conclusion": dict}
SOURCES = {"base": "base", "finetuned": "fine-tuned", "mismatched_video": "control"}
SHARES = {"exercise_accuracy": "exercise right", "feedback_accuracy": "feedback right"}


def header(*, data: str, run_folder: str | Path, device: str) -> str:
    """Return the lines above the first stage: what is trained on which data and where."""
    return f"  data    {data}\n  run     {run_folder}/\n  device  {device}"


def next_steps(
    run_folder: str | Path,
    started: float,
    holds_out: bool,
    call: CommandLine = CommandLine(),  # noqa: B008 (immutable)
) -> str:
    """Say what a call made of a run, and the command that follows.

    Args:
        run_folder: Folder of the run.
        started: When the call started, in seconds of `time.time`.
        holds_out: Whether clips are left to evaluate on.
        call: The command that was typed; the next one repeats its settings.

    Returns:
        The text; empty if the call made neither adapter nor scores nor page.
    """

    def is_new(name: str) -> bool:
        path = Path(run_folder, name)
        return path.exists() and path.stat().st_mtime > started

    made = {name for name in ("train.json", "metrics.json", "report.html") if is_new(name)}
    return f"\n{_summary(run_folder, made, holds_out, call)}" if made else ""


def up_to_date(
    targets: Collection[str],
    run_folder: str | Path,
    holds_out: bool,
    call: CommandLine = CommandLine(),  # noqa: B008
) -> str:
    """Say, where there is nothing to do, what is there already, with its figures.

    Args:
        targets: What was asked for.
        run_folder: Folder of the run.
        holds_out: Whether clips are left to evaluate on.
        call: The command that was typed.
    """
    if not OF_A_RUN & set(targets):
        return f"Nothing to do: {', '.join(sorted(targets))} is up to date."
    made = {"train.json"}
    if {"evaluate", "report", "all"} & set(targets) and holds_out:
        made = {"metrics.json"} if "evaluate" in targets else {"metrics.json", "report.html"}
    return f"Nothing to do: {run_folder}/ is up to date.\n{_summary(run_folder, made, holds_out, call)}"


def after_failure(stopped: bool) -> str:
    """Say how to resume: after an error, or where a signal stopped the call."""
    if stopped:
        return "Completed steps are kept. Run the same command again to resume."
    return "Completed steps are kept. Fix the error above and run the same command again."


def _summary(run_folder: str | Path, made: Collection[str], holds_out: bool, call: CommandLine) -> str:
    try:
        if "report.html" in made:
            lines = [*_scores(run_folder), f"Report: {run_folder}/report.html"]
            return "\n".join([*lines, f"Next: open it in a browser, or try {_answer(call)}"])
        if "metrics.json" in made:
            return "\n".join([*_scores(run_folder), f"Next: {call.command('report')} shows them on a page"])
        following = (
            f"{call.command('report')} evaluates it and shows what it learned"
            if holds_out
            else f"try {_answer(call)}; the run trained on all clips, so none is left to evaluate on"
        )
        return f"{_training(run_folder)}\nNext: {following}"
    except InputError as error:
        return str(error)


def _answer(call: CommandLine) -> str:
    return call.command("infer", "video=clip.mp4")


def _training(run_folder: str | Path) -> str:
    trained = read_json(Path(run_folder, "train.json"), remade_by("finetune"), shape=TRAINED)
    first, kept = trained["losses"]["val_first"], trained["adapters"][trained["kept"]]["val_loss"]
    validation = "no validation clips" if kept is None else f"validation loss {first:.3f} -> {kept:.3f}"
    return f"Fine-tuned: {run_folder}/adapter ({validation})"


def _scores(run_folder: str | Path) -> list[str]:
    """Return the lines of a table: a row for each measure, a column for each source of answers."""
    metrics = read_json(Path(run_folder, "metrics.json"), remade_by("evaluate"), shape=SCORES)
    sources = {name: metrics[name] for name in SOURCES if metrics[name]}
    rows = [[f"{metrics['finetuned'].get('n', '?')} test samples", *(SOURCES[name] for name in sources)]]
    for measure, label in SHARES.items():
        if any(scores.get(measure) is not None for scores in sources.values()):
            rows.append([label, *(_share(scores, measure) for scores in sources.values())])
    rows.append(["ROUGE-L", *(_number(scores, "rougeL") for scores in sources.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    headline = metrics["conclusion"].get("headline")
    return [*table, *([f"{headline}."] if headline else [])]


def _share(scores: Mapping, measure: str) -> str:
    value = scores.get(measure)
    return "-" if value is None else f"{100 * value:.0f} %"


def _number(scores: Mapping, measure: str) -> str:
    value = scores.get(measure)
    return "-" if value is None else f"{value:.2f}"
