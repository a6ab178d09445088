"""A run that was trained and evaluated, as its folder says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.conclusion import NEEDED
from mobilevideogpt.files import read_json, read_json_lines

# The shapes of train.json and metrics.json.
RECORD = {"digest": str, "digests": dict, "losses": dict, "steps": int, "epochs": float, "this_run": dict}
SCORES = {
    **{"settings": dict, "conclusion": dict, "tokens_per_second": object},
    **{"finetuned": {"n": int, "confusion": {"exercise": (dict, None), "feedback": {str: dict}}}},
}
ALL_SCORES = SCORES | {"base": (dict, None), "mismatched_video": (dict, None)}  # that the page of one run shows


@dataclass(frozen=True)
class EvaluatedRun:
    """A run.

    Attributes:
        name: Of its folder; a copied run has a new name.
        train: The run record.
        metrics: As `mobilevideogpt.evaluation.evaluate.evaluate` returns them.
        predictions: The rows that `evaluate` returns.
        log: The Trainer's log entries in order.
        config: The configuration that trained the adapter.
        samples: What it was trained and validated on, by split; None if the run does not say.
    """

    name: str
    train: Mapping
    metrics: Mapping
    predictions: Sequence[Mapping]
    log: Sequence[Mapping]
    config: Mapping
    samples: Mapping[str, Sequence[Mapping]] | None


def read_run(folder: str | Path) -> EvaluatedRun:
    """Read a run.

    Raises:
        InputError: If a file is missing or damaged, or the adapter was trained again after its evaluation.
    """
    folder = Path(folder)
    again = "run `snakemake --forcerun {} --config run=" + folder.name + f"` with the settings in {folder}/config.yaml"
    evaluate, finetune = again.format("evaluate"), again.format("finetune")
    train = read_json(folder / "train.json", finetune, shape=RECORD)
    metrics = read_metrics(folder / "metrics.json", evaluate, SCORES)
    if metrics.get("digest", train["digest"]) != train["digest"]:
        raise InputError(
            f"{folder}/metrics.json: is the evaluation of an adapter that was trained again since; {evaluate}"
        )
    return EvaluatedRun(
        name=folder.name,
        train=train,
        metrics=metrics,
        predictions=read_predictions(folder / "predictions.jsonl", evaluate),
        log=read_json_lines(folder / "log.jsonl", finetune, shape={"step": int}),
        config=read_config(folder / "config.yaml", finetune),
        samples=_read_samples(folder / "samples"),
    )


def read_metrics(path: str | Path, remedy: str, shape: dict = ALL_SCORES) -> dict:
    """Read ``metrics.json``, see `evaluate.evaluate`.

    Raises:
        InputError: If the file is missing or malformed; the message ends with ``remedy``.
    """
    return read_json(path, remedy, shape=shape)


def read_predictions(path: str | Path, remedy: str) -> list[dict]:
    """Read the rows of ``predictions.jsonl``; raises as `read_metrics` does, and for a file without a row."""
    rows = read_json_lines(path, remedy, shape=dict)
    if not rows:
        raise InputError(f"{path}: is empty; {remedy}")
    for i, row in enumerate(rows, 1):
        missing = [name for name in NEEDED if not isinstance(row, dict) or not isinstance(row.get(name), str)]
        if missing:
            raise InputError(f"{path}, line {i}: has no {', '.join(missing)}; {remedy}")
    return rows


def read_config(path: Path, remedy: str) -> dict:
    """Read the settings of a run, ``config.yaml``; raises as `read_metrics` does."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); {remedy}") from None
    if not isinstance(config, dict) or not isinstance(config.get("finetune"), dict):
        raise InputError(f"{path}: contains no settings; {remedy}")
    return config


def _read_samples(folder: Path) -> dict[str, list[dict]] | None:
    if not (folder / "train.json").is_file() or not (folder / "val.json").is_file():
        return None
    return {split: read_samples(folder / f"{split}.json") for split in ("train", "val")}
