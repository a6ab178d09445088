"""The configuration of the workflow: settings, source of the data, and checks between settings.

Imports standard library, PyYAML and jsonschema only: the rules call this each time they are read.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mobilevideogpt.annotations.conversations import build_prompt
from mobilevideogpt.annotations.groups import recording_rule
from mobilevideogpt.annotations.labels import ANSWER_FILES
from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.paths import VIDEO_SUFFIXES
from mobilevideogpt.plain_values import check_plain
from mobilevideogpt.settings import defaults, differing, flatten, merge, validated
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.wording import counted

DATASET = Path("dataset")
MANIFEST = DATASET / "manifest.json"
EXERCISE_PROMPT = "Which exercise does this video show?"  # of annotations.source: folders
LONGEST_NAME = 255  # bytes, of a file or folder
# What rules write beside the runs, below results/.
NOT_A_RUN = {
    "annotations",
    "base.json",
    "benchmarks",
    "compare",
    "device.passed",
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


def resolve(
    config: dict,
    *,
    command_line: dict | None = None,
    files: Iterable[str | Path] = (),
    config_folder: str | Path = "config",
) -> Configuration:
    """Validate the configuration and decide what it leaves open.

    Args:
        config: Configuration as read from config.yaml, ``files`` and the command line.
        command_line: The part from the command line.
        files: Of ``--configfile``, in order; read again for messages only.
        config_folder: Folder of schema.yaml and sample.yaml, in the project. A model that is a folder of the project is
            found from any working folder.

    Raises:
        InputError: If a setting is unknown or not allowed, or settings exclude each other. The message names the file
            or ``--config``.
    """
    origins = _Origins(command_line or {}, list(map(Path, files)))
    for part, where in ((command_line, "--config"), (config, origins.all)):
        check_plain(part, where)
    schema = _read_yaml(Path(config_folder, "schema.yaml"))
    settings = validated(config, schema, origins.of)
    released_model, asked = settings["model"], settings["dataset"]["source"]
    source, notice = resolve_source(asked), ""
    if source == "sample":
        plain, sample = defaults(schema), _read_yaml(Path(config_folder, "sample.yaml"))
        own = merge(differing(settings, plain), command_line or {})
        settings = validated(merge(merge(settings, sample), own), schema, origins.of)
        notice = _sample_notice(asked, differing(settings, plain))
    annotations = settings["annotations"]
    if annotations["source"] == "folders" and annotations["prompt"] == defaults(schema)["annotations"]["prompt"]:
        settings = merge(settings, {"annotations": {"prompt": EXERCISE_PROMPT}})  # the default's names the answer
    _check(settings, origins)
    settings = merge(settings, {"model": _found_in(Path(config_folder).parent, settings["model"])})
    return Configuration(settings, source, released_model, notice)


def _found_in(project: Path, model: dict) -> dict:
    """Return the setting ``model`` with paths that work in this folder: of what is in the project and not here."""

    def found(path: str | None) -> str | None:
        there = path and not os.path.exists(path) and os.path.exists(project / path)
        return os.path.normpath(project / path) if path and there else path

    return model | {name: found(path) for name, path in model.items() if not name.endswith("_revision")}


def check_configuration_file(path: str | Path) -> None:
    """Check that a configuration file can be read: Snakemake ends with a traceback where it cannot.

    Raises:
        InputError: If the file cannot be read, is not YAML, or contains other than plain values, see `check_plain`.
    """
    try:
        config = _read_yaml(Path(path))
    except FileNotFoundError:
        return  # Snakemake says so, or takes the file of --configfile instead
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); write it again") from None
    # a ValueError is a date that does not exist or a number of thousands of digits
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}{_line_of(error)}: is not YAML ({_without_lines(error)}); correct it") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: contains {shown(config)}, not settings; write lines such as `run: try2`")
    check_plain(config, str(path))


def _line_of(error: Exception) -> str:
    """Return where YAML cannot be read, if the error says so."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _without_lines(error: Exception) -> str:
    """Return the message of an error without YAML's own places, which are those of a text without a name."""
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    return " ".join(", ".join(part for part in parts if part).split()) or " ".join(str(error).split())


@dataclass(frozen=True)
class _Origins:
    """Where settings come from: the command line above ``--configfile`` above config.yaml."""

    command_line: dict
    files: list[Path]

    @property
    def all(self) -> str:
        return " with ".join(["config.yaml", *map(_relative, self.files)])

    def of(self, path: Sequence[str]) -> str:
        """Return the name of the topmost configuration that has a setting."""
        if _has(self.command_line, path):
            return "--config"
        for file in reversed(self.files):
            with suppress(OSError, ValueError, yaml.YAMLError):
                if _has(_read_yaml(file), path):
                    return _relative(file)
        return "config.yaml"

    @contextmanager
    def named(self, group: str) -> Iterator[None]:
        """Put the configuration in front of an error that begins with the name of a setting of a group."""
        try:
            yield
        except InputError as error:
            found = re.match(rf"{group}\.(\w+)", str(error))
            raise InputError(f"{self.of([group, found[1]])}: {error}" if found else str(error)) from None


def _has(config: Any, path: Sequence[str]) -> bool:
    for name in path:
        if isinstance(config, list):  # a setting as a whole has one origin
            return True
        if not isinstance(config, dict) or name not in config:
            return False
        config = config[name]
    return bool(path)


def _relative(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


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


def _check(settings: dict, origins: _Origins) -> None:
    """Check what the schema cannot express."""
    if settings["run"] in NOT_A_RUN:
        raise InputError(
            f"{origins.of(['run'])}: run: {settings['run']} is a name that the workflow uses below results/; choose "
            "another"
        )
    for name, value in flatten({key: settings.get(key) for key in ("video", "model", "dataset")}):
        if isinstance(value, str) and any(len(os.fsencode(part)) > LONGEST_NAME for part in value.split("/")):
            where = origins.of(name.split("."))
            raise InputError(
                f"{where}: {name}: {shown(value)} has a name of more than {LONGEST_NAME} bytes; shorten it"
            )
    annotations = settings["annotations"]
    total = sum(annotations["split"].values())
    if abs(total - 1) > 1e-6:
        where = origins.of(["annotations", "split"])
        raise InputError(f"{where}: annotations.split: the fractions add up to {total:g}, not to 1; correct them")
    with origins.named("finetune"):
        TrainingSettings.from_dict(settings["finetune"])
    with origins.named("annotations"):
        recording_rule(annotations["recording_pattern"])
        build_prompt(annotations["prompt"], "squats")
        if annotations["source"] == "folders" and "{exercise}" in annotations["prompt"]:
            raise InputError(
                "annotations.prompt: {exercise} is the answer of annotations.source: folders; leave it out here"
            )
    if "prompt" in settings:
        build_prompt(settings["prompt"], "squats", setting="prompt")


def _sample_notice(asked: str, changed: dict) -> str:
    reason = f"No {MANIFEST}" if asked == "auto" else f"dataset.source is {asked}"
    number = counted(len(list(flatten(changed))), "setting{s} {differs|differ}")
    return (
        f"{reason}: using the built-in sample, 30 rendered clips and a tiny base checkpoint; {number} from the "
        "defaults, see config/sample.yaml"
    )


def _read_yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the loader in C is fast
    return yaml.load(path.read_text(encoding="utf-8"), loader)
