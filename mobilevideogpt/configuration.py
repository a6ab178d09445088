"""The configuration of the workflow: settings, source of the data, and checks between settings.

Imports standard library, PyYAML and jsonschema only: the rules call this each time they are read.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from mobilevideogpt.annotations.labels import ANSWER_FILES
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import VIDEO_SUFFIXES
from mobilevideogpt.settings import differing, flatten, merge, validated
from mobilevideogpt.training.settings import TrainingSettings

DATASET = Path("dataset")
MANIFEST = DATASET / "manifest.json"
# What rules write beside the runs, below results/.
NOT_A_RUN = {
    "annotations",
    "base.json",
    "benchmarks",
    "compare",
    "features",
    "hub",
    "logs",
    "normalised",  # by releases before 0.2
    "preflight.json",
    "preflight.passed",
    "preflight.rehearsal.json",
    "reencoded",
    "sample",
    "verify",
}


@dataclass(frozen=True)
class Configuration:
    """Resolved configuration.

    Attributes:
        settings: Every setting, with its default where none was given.
        source: Whose data is used: ``qved``, ``hub`` or ``sample``.
        released_model: The setting ``model`` before the sample replaced it, which `snakemake fetch` downloads.
        notice: Text for the user; empty unless the sample is used.
    """

    settings: dict
    source: str
    released_model: dict
    notice: str


def resolve(config: dict, *, command_line: dict | None = None, config_folder: str | Path = "config") -> Configuration:
    """Validate the configuration and decide what it leaves open.

    Args:
        config: Configuration as read from config.yaml and the command line.
        command_line: The part from the command line.
        config_folder: Folder of schema.yaml and sample.yaml.

    Raises:
        InputError: If a setting is unknown or not allowed, or settings exclude each other.
    """
    schema = _read_yaml(Path(config_folder, "schema.yaml"))
    settings = validated(config, schema)
    released_model, asked = settings["model"], settings["dataset"]["source"]
    source, notice = resolve_source(asked), ""
    if source == "sample":
        defaults, sample = validated({}, schema), _read_yaml(Path(config_folder, "sample.yaml"))
        own = merge(differing(settings, defaults), command_line or {})
        settings = validated(merge(merge(settings, sample), own), schema)
        notice = _sample_notice(asked, differing(settings, defaults))
    _check(settings)
    return Configuration(settings, source, released_model, notice)


def resolve_source(asked: str) -> str:
    """Return whose data is used.

    Args:
        asked: The setting ``dataset.source``.

    Raises:
        InputError: If ``qved`` is set, but there is neither a manifest nor a clip.
    """
    if asked == "auto":
        label_files = (DATASET / name for names in ANSWER_FILES.values() for name in names)
        own_data = MANIFEST.exists() or any(path.exists() for path in label_files) or has_own_clips()
        return "qved" if own_data else "sample"
    if asked == "qved" and not MANIFEST.exists() and not has_own_clips():
        raise InputError(f"dataset.source is qved, but there is no {MANIFEST}; add it, or set dataset.source: sample")
    return asked


def has_own_clips() -> bool:
    """Whether the user has clips: ``dataset/<exercise>/<clip>``."""
    folders = (path for path in DATASET.glob("*/") if path.name not in {"sample", "hub"})
    return any(file.suffix.lower() in VIDEO_SUFFIXES for folder in folders for file in folder.glob("*"))


def _check(settings: dict) -> None:
    if settings["run"] in NOT_A_RUN:
        raise InputError(f"run: {settings['run']} is a name that the workflow uses below results/; choose another")
    TrainingSettings.from_dict(settings["finetune"])
    total = sum(settings["annotations"]["split"].values())
    if abs(total - 1) > 1e-6:
        raise InputError(f"annotations.split: the fractions add up to {total:g}, not to 1; correct config.yaml")


def _sample_notice(asked: str, changed: dict) -> str:
    reason = f"No {MANIFEST}" if asked == "auto" else f"dataset.source is {asked}"
    listed = ", ".join(f"{name}={value}" for name, value in flatten(changed))
    return (
        f"{reason}: using the built-in sample, 30 rendered clips and a tiny base checkpoint.\n"
        f"Settings that differ from the defaults (config/sample.yaml): {listed}"
    )


def _read_yaml(path: Path) -> dict:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the loader in C is fast
    return yaml.load(path.read_text(encoding="utf-8"), loader)
