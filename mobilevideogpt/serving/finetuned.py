"""A fine-tuned model by the name that a user gives: a run, an adapter, an export, or a repository of the hub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]
from safetensors import SafetensorError, safe_open

from mobilevideogpt.checksums import SUMS, sums_are_right
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, json_digest, read_json
from mobilevideogpt.hub.retry import explained, retry
from mobilevideogpt.model.geometry import VIDEO_PREFIX
from mobilevideogpt.model.model_paths import (
    ADAPTER_FILES,
    DOWNLOADS,
    VIDEO_FILE,
    WHOLE_FILES,
    ModelPaths,
    describe,
    read_base,
)
from mobilevideogpt.paths import FETCHED, FETCHED_SHAPE, REPOSITORY
from mobilevideogpt.runs import known_runs
from mobilevideogpt.training.checkpoints import (
    ADAPTER,
    RUN_RECORD,
    content_digest,
    read_run_record,
    recorded_content,
    verified_adapter,
)

RESULTS = ("results", "results/sample", "results/hub")  # where runs are, in the project's folder
DOWNLOADED = ("*.json", "*.safetensors", "*.txt", "*.bin", SUMS)
TINY_BASE = "mobilevideogpt/sample/base"
RELEASED_ENCODERS = {
    "video_encoder": f"OpenGVLab/VideoMamba/{VIDEO_FILE}",
    "image_encoder": "openai/clip-vit-base-patch16",
}
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model on the disk.

    Attributes:
        name: Of the run, or of the folder or repository.
        paths: Base and encoders; the merged checkpoint itself where there is no adapter.
        adapter: Folder of the adapter, or of all fine-tuned weights; None for a merged checkpoint.
        record: The run record, ``train.json``; empty where the folder has none.
        run: The run's folder, where it is one.
    """

    name: str
    paths: ModelPaths
    adapter: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None

    @classmethod
    def of_run(cls, folder: str | Path) -> "Finetuned":
        """Describe a trained run, without a look at its weights and its base.

        Raises:
            InputError: If the run has no record.
        """
        folder, record = Path(folder), read_run_record(folder)
        paths = ModelPaths.from_mapping(record.get("model") or record)
        return cls(folder.resolve().name, paths, folder / record["adapter"], record, folder)

    @property
    def precision(self) -> str:
        """Precision of the training: ``bf16``, ``fp16`` or ``fp32``."""
        return self.record.get("precision") or "fp32"

    @property
    def prompt(self) -> str | None:
        """The template of the prompts that it was trained on; None if that is not known."""
        return self.record.get("prompt") or settings_of(self.run).get("annotations", {}).get("prompt")

    @property
    def exercises(self) -> tuple[str, ...]:
        """The exercises that it was trained on; empty if they are not known."""
        return tuple(self.record.get("exercises") or ())

    @property
    def data_root(self) -> Path | None:
        """The folder of the run's data set."""
        if self.run is None:
            return None
        results = self.run.parent
        nested = results.name in {"sample", "hub"}
        return results.parent.parent / "dataset" / results.name if nested else results.parent / "dataset"

    @property
    def is_toy(self) -> bool:
        """Whether its base is the sample's, which knows rendered figures only."""
        return str(self.record.get("base", "")).endswith(TINY_BASE)


def find_finetuned(name: str | Path, results: Sequence[str] = RESULTS, download: bool = True) -> Finetuned:
    """Find a fine-tuned model, and check that its files are those that were written.

    Args:
        name: A run's name or folder, the folder of an adapter or an export, or a repository, ``owner/name``.
        results: Folders of runs.
        download: Whether what is missing may be downloaded.

    Raises:
        InputError: If there is no such model, a file is damaged, or its base is missing or another one.
    """
    folder = Path(name)
    if not folder.is_dir() and "/" not in str(name):
        folder = next((place for top in results if (place := Path(top, name)).is_dir()), folder)
    if folder.is_dir():
        return _in_folder(folder, folder.resolve().name, download)
    if REPOSITORY.fullmatch(str(name)) and not str(name).startswith(("results/", "./", "../")) and download:
        return _in_folder(_downloaded(str(name)), str(name), download)
    known = ", ".join(run for top in results for run in known_runs(top)) or "none"
    raise InputError(
        f"{name}: there is no such run, folder or repository; the runs here are: {known}. "
        f"`snakemake finetune --config run={Path(name).name}` trains one"
    )


def _in_folder(folder: Path, name: str, download: bool) -> Finetuned:
    if (folder / ADAPTER).is_dir() or (folder / "config.yaml").is_file():
        return _of_run(folder, name, download)
    if (folder.parent / RUN_RECORD).is_file() and folder.name == ADAPTER:
        return _of_run(folder.parent, folder.resolve().parent.name, download)
    _check_content(folder)
    record = read_json(folder / RUN_RECORD, shape=dict) if (folder / RUN_RECORD).is_file() else {}
    if (folder / ADAPTER_FILES[0]).is_file():
        named = read_json(folder / ADAPTER_FILES[0], shape=dict).get("base_model_name_or_path")
        model = record.get("model") or {"base": record.get("base") or named}
    elif _has_encoders(folder):
        return Finetuned(name, ModelPaths(str(folder)), record=record)
    elif (folder / WHOLE_FILES[-1]).is_file() and record:
        model = record.get("model") or {"base": record.get("base")}
    else:
        raise InputError(
            f"{folder}: contains no run, no adapter and no checkpoint with its encoders; give the folder of a run, or "
            "one that `snakemake export` wrote"
        )
    return Finetuned(name, _base(model, record, folder, download), folder, record)


def _of_run(folder: Path, name: str, download: bool) -> Finetuned:
    if not (folder / RUN_RECORD).is_file():
        raise InputError(
            f"{folder}: has not been trained (no {RUN_RECORD}); run `snakemake finetune --config run={folder.name}`"
        )
    record = read_run_record(folder)
    adapter = verified_adapter(folder)
    model = record.get("model") or settings_of(folder).get("model") or record
    description = folder.parent / "base.json"
    return Finetuned(name, _base(model, record, folder, download, description), adapter, record, folder)


def settings_of(run: Path | None) -> dict:
    """Read config.yaml of a run; empty if it cannot be read, since a run of an older version may lack it."""
    try:
        found = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_content(folder: Path) -> None:
    """Compare the files of an adapter or an export with the digests beside them, where there are any."""
    if (folder / SUMS).is_file():
        intact = sums_are_right(folder)
    else:
        written = recorded_content(folder)
        intact = written is None or written == content_digest(folder)
    if not intact:
        raise InputError(f"{folder}: these files are not those that were written; copy the folder again")


def _has_encoders(folder: Path) -> bool:
    """Whether a folder contains a checkpoint with its encoders; reads no tensor."""
    if (folder / INDEX).is_file():
        names = read_json(folder / INDEX, shape={"weight_map": dict})["weight_map"]
    elif (path := folder / WHOLE_FILES[-1]).is_file():
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
        except SafetensorError as error:
            raise InputError(f"{path}: damaged ({error}); copy it again") from None
    else:
        names = []
    return any(name.startswith(VIDEO_PREFIX) for name in names)


def _downloaded(repository: str) -> Path:
    """Download a repository to the hub's cache, and return its folder there."""

    def download() -> str:
        return snapshot_download(repository, allow_patterns=list(DOWNLOADED))

    unreachable = "there is no such run or folder, and the hub cannot be reached"
    with explained(repository, unreachable, "check the name and the connection"):
        return Path(retry(download, (HTTPError, OSError)))


# The base


def _base(model: Mapping, record: Mapping, folder: Path, download: bool, description: Path | None = None) -> ModelPaths:
    """Return base and encoders of an adapter, once they are known to be those of its training.

    Args:
        model: The paths that were recorded.
        record: The run record.
        folder: Of the adapter or the run; recorded paths are relative to it or to a folder above.
        download: Whether a missing base may be downloaded.
        description: base.json, if the folder is a run's.
    """
    if not model.get("base"):
        raise InputError(f"{folder}: does not say which base it was trained on; copy train.json along with it")
    found = {name: (path := model.get(name)) and _located(path, folder, download) for name in RELEASED_ENCODERS}
    base = str(_located(model["base"], folder, download))
    if not Path(base).is_dir():
        base = str(_downloaded(base))
    if not any(found.values()) and not _has_encoders(Path(base)):
        found = {name: _located(path, folder, download) for name, path in RELEASED_ENCODERS.items()}
    paths = ModelPaths(base, **found)
    _check_base(paths, record, model, description)
    return paths


def _located(path: str, folder: Path, download: bool) -> str:
    """Return where a recorded path is on this machine, or the hub's name of it."""
    above = [Path(), folder, *folder.absolute().parents]
    if found := next((place / path for place in above if (place / path).exists()), None):
        return str(found)
    if str(path).endswith(TINY_BASE):
        return str(Path(__file__).parents[1] / "sample" / "base")
    named = path.removeprefix(f"{DOWNLOADS}/")
    if local := next((at for place in above if (at := place / DOWNLOADS / named).exists()), None):
        return str(local)
    if download and re.fullmatch(rf"{REPOSITORY.pattern}(/[\w.-]+\.pth)?", named):
        return named
    raise InputError(
        f"{path}: the base of this training is not here; call from the project's folder, or run `snakemake fetch`"
    )


def _check_base(paths: ModelPaths, record: Mapping, model: Mapping, description: Path | None) -> None:
    """Compare the files of the base with what the training recorded; what the hub's cache has is not compared."""
    expected = record.get("digests", {}).get("base")
    local = [Path(path) for path in paths.named.values() if path]
    if not expected or not all(path.exists() for path in local):
        return
    if description and description.is_file():
        base = read_base(description, verified=False)
        if json_digest(sorted(base["files"].values())) == expected and base["base"] == model["base"]:
            read_base(description)  # names the file that changed
            return
    digests: list[str] = []
    for path in local:
        record_file = next((at for at in (path / FETCHED, path.parent / FETCHED) if at.is_file()), None)
        if record_file is None:
            files = sorted(path.glob("*")) if path.is_dir() else [path]
            digests += describe(paths, [str(file) for file in files if file.is_file()])["files"].values()
            continue
        fetched = read_json(record_file, "run `snakemake fetch` again", shape=FETCHED_SHAPE)["files"]
        for name, digest in fetched.items():
            if not (file := record_file.parent / name).is_file() or file_digest(file) != digest:
                raise InputError(f"{file}: lost or changed since it was fetched; run `snakemake fetch` again")
        digests += fetched.values()
    if "snapshots" not in Path(paths.base).parts and json_digest(sorted(digests)) != expected:
        raise InputError(
            f"{paths.base}: is not the base of this training, or its encoders are others; its files differ from those "
            f"that {RUN_RECORD} records. Copy the base of the training there"
        )
