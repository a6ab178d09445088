"""A run that was trained and evaluated, as its folder says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.conclusion import NEEDED
from mobilevideogpt.files import read_json, read_json_lines

RECORD = ("digest", "digests", "losses", "steps", "epochs", "this_run")  # of train.json
SCORES = ("finetuned", "conclusion", "settings", "tokens_per_second")  # of metrics.json


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
    train = _read_object(folder / "train.json", RECORD, finetune)
    metrics = _read_object(folder / "metrics.json", SCORES, evaluate)
    if metrics.get("digest", train["digest"]) != train["digest"]:
        raise InputError(
            f"{folder}/metrics.json: is the evaluation of an adapter that was trained again since; {evaluate}"
        )
    return EvaluatedRun(
        name=folder.name,
        train=train,
        metrics=metrics,
        predictions=_read_predictions(folder / "predictions.jsonl", evaluate),
        log=read_json_lines(folder / "log.jsonl", finetune),
        config=_read_config(folder / "config.yaml", finetune),
        samples=_read_samples(folder / "samples"),
    )


def _read_object(path: Path, keys: Sequence[str], remedy: str) -> dict:
    value = read_json(path, remedy)
    missing = [key for key in keys if key not in value] if isinstance(value, dict) else list(keys)
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; {remedy}")
    return value


def _read_predictions(path: Path, remedy: str) -> list[dict]:
    rows = read_json_lines(path, remedy)
    if not rows:
        raise InputError(f"{path}: is empty; {remedy}")
    for i, row in enumerate(rows, 1):
        missing = [name for name in NEEDED if not isinstance(row, dict) or not isinstance(row.get(name), str)]
        if missing:
            raise InputError(f"{path}, line {i}: has no {', '.join(missing)}; {remedy}")
    return rows


def _read_config(path: Path, remedy: str) -> dict:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); {remedy}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: contains no settings; {remedy}")
    return config


def _read_samples(folder: Path) -> dict[str, list[dict]] | None:
    if not (folder / "train.json").is_file() or not (folder / "val.json").is_file():
        return None
    return {split: read_samples(folder / f"{split}.json") for split in ("train", "val")}
