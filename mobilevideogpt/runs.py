"""The runs that exist, and those that `snakemake compare` reads: their files. Standard library only."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest

MOST_RUNS = 12  # that lines of one chart can tell apart
LONGEST_NAME = 120
NEEDED = {"finetune": ("train.json", "config.yaml", "log.jsonl"), "evaluate": ("metrics.json", "predictions.jsonl")}
SAMPLES = ("samples/train.json", "samples/val.json")  # missing in runs of version 0.1
EXAMPLE = "snakemake compare --config 'runs=[a,b]'"


def comparison_name(runs: Sequence[str]) -> str:
    """Return the name of the page's file without suffix: ``a+b``; no run's name contains a plus.

    A long name ends with a digest instead.
    """
    name = "+".join(runs) or "none"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 13]}+{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def files_to_compare(results: str | Path, runs: Sequence[str]) -> dict[str, str | None]:
    """Return the files that a comparison reads, with their digests; None for a missing one that is not needed.

    Args:
        results: Folder of the runs.
        runs: Their names.

    Raises:
        InputError: If there are fewer than two names or too many, a name occurs twice, or a run has not been trained
            and evaluated. The message lists the runs that exist, and says what is missing and which command makes it.
    """
    results = Path(results)
    known = f"the runs below {results}/ are: {', '.join(known_runs(results)) or 'none'}"
    if len(runs) < 2:
        raise InputError(f"runs: name at least two, as in {EXAMPLE}; {known}")
    if twice := sorted({run for run in runs if list(runs).count(run) > 1}):
        raise InputError(f"runs: {', '.join(twice)} is named twice; name different runs; {known}")
    if len(runs) > MOST_RUNS:
        raise InputError(f"runs: {len(runs)} are named; compare at most {MOST_RUNS} at a time")
    if problems := [problem for run in runs if (problem := _problem(results / run))]:
        raise InputError("\n".join([*(f"runs: {problem}" for problem in problems), known]))
    paths = [results / run / name for run in runs for names in (*NEEDED.values(), SAMPLES) for name in names]
    return {str(path): file_digest(path) if path.is_file() else None for path in paths}


def known_runs(results: str | Path) -> list[str]:
    """Return the names of the trained runs below a folder, in order."""
    there = Path(results).glob("*/config.yaml")
    return sorted(path.parent.name for path in there if path.with_name("train.json").is_file())


def run_to_use(results: str | Path, run: str) -> list[str]:
    """Return no file, as Snakemake would bring a run's files up to date first, and train.

    Args:
        results: Folder of the runs.
        run: Name of the run.

    Raises:
        InputError: If the run has not been trained. The message lists those that exist, and says how to train it.
    """
    record = Path(results, run, "train.json")
    if record.is_file():
        return []
    known = known_runs(results)
    named = f"{', '.join(known)}; use one with `--config run={known[0]}`" if known else "none"
    raise InputError(
        f"{record.parent}: has not been trained (no {record}); run `snakemake finetune`, "
        f"with the same options, to train it. Trained runs there: {named}"
    )


def _problem(folder: Path) -> str:
    """Why a run cannot be compared; empty if it can."""
    if not folder.is_dir():
        return f"there is no {folder}/; check the name"
    for target, names in NEEDED.items():
        if missing := [name for name in names if not (folder / name).is_file()]:
            done = {"finetune": "trained", "evaluate": "evaluated"}[target]
            settings = f", with the settings in {folder}/config.yaml" if target == "evaluate" else ""
            return (
                f"{folder.name} has not been {done} (no {folder}/{' and no '.join(missing)}); "
                f"run `snakemake {target} --config run={folder.name}`{settings}"
            )
    return ""
