"""The paths and files of the base checkpoint and of both encoders. Standard library only."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, json_digest, read_json, remade_by
from mobilevideogpt.paths import FETCHED

DESCRIPTION = {  # the shape of base.json
    **{"base": str, "video_encoder": (str, None), "image_encoder": (str, None)},
    **{"files": {str: str}, "encoders_digest": str},
}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
WHOLE_FILES = ("config.json", "model.safetensors")  # of a checkpoint, or of weights that were trained as a whole
VIDEO_FILE = "videomamba_m16_25M_f8_res224.pth"
DOWNLOADS = "checkpoints"  # folder of repositories that were fetched from the hub
PATTERNS = {  # files to fetch from a repository; None: all
    "base": None,
    "image_encoder": ["config.json", "pytorch_model.bin"],
}


@dataclass(frozen=True)
class ModelPaths:
    """Paths of the base checkpoint's folder, of VideoMamba's ``.pth`` and of CLIP's folder.

    An encoder is None where the base checkpoint contains it.
    """

    base: str
    video_encoder: str | None = None
    image_encoder: str | None = None

    @classmethod
    def from_mapping(cls, values: Mapping) -> "ModelPaths":
        """Pick the three paths from a mapping that contains more, ``base.json`` or the setting ``model``."""
        return cls(values["base"], values.get("video_encoder"), values.get("image_encoder"))

    @property
    def named(self) -> dict[str, str | None]:
        """The three paths by name."""
        return asdict(self)

    @property
    def encoders(self) -> dict[str, str | None]:
        """Keyword arguments of `MobileVideoGPTForConditionalGeneration.from_pretrained` beside the base."""
        return {"video_encoder": self.video_encoder, "image_encoder": self.image_encoder}

    def local(self) -> "ModelPaths":
        """Return the paths with the download folder in front of those that name a repository of the hub."""
        return ModelPaths(_local(self.base), **{n: path and _local(path) for n, path in self.encoders.items()})

    def files(self) -> list[str]:
        """List the files that identify the model: local ones, and the record of each repository."""
        paths = [Path(path) for path in self.named.values() if path]
        files = [file for path in paths for file in (sorted(path.glob("*")) if path.is_dir() else [path])]
        records = [f"{DOWNLOADS}/{name}/{FETCHED}" for name in repositories(self.named)]
        return [str(file) for file in files if file.is_file()] + records


def _local(path: str) -> str:
    return path if _is_local(path) else f"{DOWNLOADS}/{path}"


def _is_local(path: str | None) -> bool:
    return path is None or Path(path).exists()


def repositories(model: Mapping) -> dict[str, dict]:
    """Return ``revision`` and ``patterns`` (files to fetch) of each hub repository that the setting ``model`` names.

    A path that exists on the disk is not a repository. ``owner/name/file.pth`` names one file of a repository.
    """
    wanted = {}
    for name in ModelPaths.__dataclass_fields__:
        if not _is_local(path := model[name]):
            repository = Path(*Path(path).parts[:2]).as_posix()
            patterns = PATTERNS[name] if name in PATTERNS else [Path(path).name]
            wanted[repository] = {"revision": model.get(f"{name}_revision"), "patterns": patterns}
    return wanted


def describe(paths: ModelPaths, files: Iterable[str]) -> dict:
    """Describe a model by the SHA-256 of its files.

    Args:
        paths: Where base and encoders are.
        files: As `ModelPaths.files` lists them; a repository's record stands for the files that were fetched.

    Returns:
        What ``base.json`` contains: the three paths, ``files`` (path to SHA-256), and ``encoders_digest``, over the
        files that contain the encoders' weights, which identifies them in the key of cached features.
    """
    digests: dict[str, str] = {}
    for file in files:
        if file.endswith(f"/{FETCHED}"):
            folder = file.removesuffix(FETCHED)
            fetched = read_json(file, remade_by("fetch_repository"), shape={"files": {str: str}})
            digests |= {folder + name: digest for name, digest in fetched["files"].items()}
        else:
            digests[file] = file_digest(file)
    holders = [path or paths.base for path in paths.encoders.values()]
    weights = {
        digest
        for file, digest in digests.items()
        if Path(file).suffix in {".safetensors", ".bin", ".pth", ".pt"}
        and any(Path(file) == Path(holder) or Path(holder) in Path(file).parents for holder in holders)
    }
    return {**paths.named, "files": digests, "encoders_digest": json_digest(sorted(weights))}


def read_base(path: str | Path, verified: bool = True) -> dict:
    """Read ``base.json``, see `describe`.

    Args:
        path: The file.
        verified: Whether the files that it lists are read and compared with their digests.

    Raises:
        InputError: If the file is missing or malformed, or a file of the model is not the one that it describes.
    """
    base = read_json(path, remade_by("describe_base"), shape=DESCRIPTION)
    for file, digest in base["files"].items() if verified else ():
        if not Path(file).is_file() or file_digest(file) != digest:
            fetched = Path(file).parts[0] == DOWNLOADS
            remedy = (
                "run `snakemake --forcerun fetch_repository`, which downloads it again"
                if fetched
                else "copy it again, or run `snakemake --forcerun describe_base` if it was changed on purpose"
            )
            raise InputError(f"{file}: lost or changed since {path} was written; {remedy}")
    return base


def read_base_ahead(path: str | Path) -> tuple[dict, Callable[[], object]]:
    """Read ``base.json`` while a thread verifies the files that it lists, a gigabyte a second.

    Returns:
        The description, and a function that waits for the thread and raises as `read_base` does.
    """
    base = read_base(path, verified=False)
    with_thread = ThreadPoolExecutor(1)
    verified = with_thread.submit(read_base, path)
    with_thread.shutdown(wait=False)  # the thread ends with its work, before a launcher is forked
    return base, verified.result
