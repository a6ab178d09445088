"""A trained run keeps the settings that trained it: `snakemake report` uses these, whatever config.yaml says now."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import read_json
from mobilevideogpt.settings import flatten, merge
from mobilevideogpt.training.settings import TrainingSettings

FILE = "settings.json"  # in the run's folder; config.yaml beside it has the values that `auto` became
# The groups that a run is made of. `evaluate` is none: other settings there cost no training.
GROUPS = ("dataset", "annotations", "integrity", "model", "features", "preflight", "finetune")
EVALUATING = {"report", "evaluate", "export", "infer", "push"}  # of a run that is there
EVALUATION_FILES = {"report.html", "metrics.json", "predictions.jsonl", "predictions.csv"}
NEVER_TRAINING = {"compare"}
# Settings of the other groups that leave the adapter as it is.
_NO_REASON_TO_TRAIN = {
    *("dataset.source", "features.batch_size", "features.cache", "features.shards"),
    *("integrity.timeout_seconds", "integrity.memory_gb", "integrity.jobs_a_clip_up_to"),
}
SHOWN = 4  # settings in the notice


@dataclass(frozen=True)
class SettingsOfRun:
    """Settings of a call.

    Attributes:
        settings: All of them.
        notice: What differs from the settings of the call, in a sentence; empty if nothing does.
    """

    settings: dict
    notice: str = ""


def only_evaluates(targets: Collection[str], run_folder: str | Path) -> bool:
    """Whether a call asks for the evaluation or the page of a run, and for nothing that trains it.

    Args:
        targets: Rules and files as they were asked for, those of ``--forcerun`` among them; none is everything.
        run_folder: Folder of the run.
    """
    evaluating = EVALUATING | {f"{run_folder}/{name}" for name in EVALUATION_FILES}
    return not evaluating.isdisjoint(targets) and evaluating | NEVER_TRAINING >= set(targets)


def settings_of_run(settings: Mapping, run_folder: str | Path, targets: Collection[str]) -> SettingsOfRun:
    """Return the settings that a call uses: those that trained the run, where it only evaluates a trained run.

    Args:
        settings: Those of the call, complete.
        run_folder: Folder of the run.
        targets: See `only_evaluates`.

    Raises:
        InputError: If the run's settings cannot be read.
    """
    folder = Path(run_folder)
    there = (folder / "train.json").is_file() and (folder / FILE).is_file()  # earlier versions wrote no settings
    if not there or not only_evaluates(targets, run_folder):
        return SettingsOfRun(dict(settings))
    remedy = f"delete it, and `snakemake finetune --config run={folder.name}` writes it again"
    recorded = read_json(folder / FILE, remedy, shape={name: dict for name in GROUPS})
    # A setting of a newer version keeps the value of the call; a setting of an older one is gone.
    kept = {name: _known(recorded[name], settings[name]) for name in GROUPS}
    kept["dataset"]["source"] = settings["dataset"]["source"]  # decides which folder the run is in
    used = merge(dict(settings), kept)
    return SettingsOfRun(used, _notice(folder.name, used, settings))


def _known(recorded: Mapping, settings: Mapping) -> dict:
    return {name: value for name, value in recorded.items() if name in settings}


def _notice(run: str, used: Mapping, settings: Mapping) -> str:
    trained_with, now = _training_settings(used), _training_settings(settings)
    names = [name for name, value in trained_with.items() if value != now.get(name)]
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    trained = ", ".join(f"{name} {_short(trained_with[name])}" for name in names[:SHOWN])
    said = ", ".join(_short(now.get(name)) for name in names[:SHOWN])
    return (
        f"run {run} was trained with {trained}{more}; the settings now say {said}: "
        f"`snakemake finetune --config run={run}` trains it again"
    )


def _training_settings(settings: Mapping) -> dict[str, object]:
    """Return the settings that shape an adapter, by their dotted names."""
    groups = {name: settings[name] for name in GROUPS if name != "preflight"}
    groups["finetune"] = TrainingSettings.from_dict(settings["finetune"]).result_affecting()
    return {name: value for name, value in flatten(groups) if name not in _NO_REASON_TO_TRAIN}


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else value if isinstance(value, str) and len(value) < 60 else shown(value)


def as_given(configuration: Mapping) -> dict:
    """Return what `FILE` contains.

    Args:
        configuration: All settings of the call that trained.

    Raises:
        InputError: If a group of settings is missing.
    """
    if missing := [name for name in GROUPS if name not in configuration]:
        raise InputError(f"the configuration has no {', '.join(missing)}; pass all settings")
    return {name: configuration[name] for name in GROUPS}
