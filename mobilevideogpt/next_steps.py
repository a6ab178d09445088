"""What a call of Snakemake made, and what to type next. Standard library only."""

from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, remade_by

ANSWER = "`snakemake infer --config video=clip.mp4`"


def next_steps(run_folder: str | Path, started: float, holds_out: bool) -> str:
    """Say what a call made of a run, and the command that follows.

    Args:
        run_folder: Folder of the run.
        started: When the call started, in seconds of `time.time`.
        holds_out: Whether clips are left to evaluate on.

    Returns:
        The text; empty if the call made neither the adapter nor the page.
    """
    record, page = Path(run_folder, "train.json"), Path(run_folder, "report.html")

    def is_new(path: Path) -> bool:
        return path.exists() and path.stat().st_mtime > started

    if is_new(page):
        return f"\nReport: {page}\nNext: open it in a browser, or try {ANSWER}"
    if not is_new(record):
        return ""
    try:
        trained = read_json(record, remade_by("finetune"), shape={"losses": dict, "kept": str, "adapters": {str: dict}})
    except InputError as error:
        return f"\n{error}"
    first, kept = trained["losses"]["val_first"], trained["adapters"][trained["kept"]]["val_loss"]
    validation = "no validation clips" if kept is None else f"validation loss {first:.3f} -> {kept:.3f}"
    following = (
        "`snakemake report` evaluates it and shows what it learned"
        if holds_out
        else f"try {ANSWER}; the run trained on all clips, so none is left to evaluate on"
    )
    return f"\nFine-tuned: {run_folder}/adapter ({validation})\nNext: {following}"
