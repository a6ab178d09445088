"""Files of cached features: their keys and paths, and which are missing. Without PyTorch, so that it loads quickly."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.samples import ClipFile
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, read_json, write_table

log = logging.getLogger(__name__)
CLIPS_FILE = "clips.json"  # the clip of each key, in the folder of a `FeatureStore`
REMEDY = "run the same command again to compute what is missing"


def feature_key(clip_digest: str, encoders_digest: str, settings: Mapping) -> str:
    """Digest everything that the features of a clip depend on.

    Args:
        clip_digest: SHA-256 of the clip's file.
        encoders_digest: Digest of the encoders' weights.
        settings: Whatever else changes the result: frames, number format, encoder geometry, code of the extractor.
    """
    return feature_key_of(encoders_digest, settings)(clip_digest)


def feature_key_of(encoders_digest: str, settings: Mapping) -> Callable[[str], str]:
    """Return `feature_key` as a function of the clip's digest, hexadecimal; the settings are written as JSON once."""
    rest = json.dumps({"encoder": encoders_digest, "settings": dict(settings)}, sort_keys=True, ensure_ascii=False)
    return lambda digest: hashlib.sha256(f'{{"clip": "{digest}", {rest[1:]}'.encode()).hexdigest()


def feature_path(folder: str | Path, key: str) -> Path:
    """Return the file of ``key``, whether it exists or not."""
    return Path(folder) / key[:2] / f"{key}.safetensors"


class ClipList(NamedTuple):
    """The file of each key, and the precision of the encoders; see `set_encoder_precision`."""

    files: dict[str, ClipFile]
    precision: str


def write_clip_list(folder: str | Path, clips: Mapping[str, ClipFile], precision: str) -> None:
    """Write ``<folder>/clips.json``: the file of each key with its SHA-256, the precision, and the digest of both."""
    content = {"files": {key: clip._asdict() for key, clip in clips.items()}, "precision": precision}
    write_table({**content, "sha256": json_digest(content)}, Path(folder, CLIPS_FILE))


def read_clip_list(folder: str | Path) -> ClipList:
    """Return the file of each key, and the precision of the encoders.

    Raises:
        InputError: If the list is missing or damaged.
    """
    path = Path(folder, CLIPS_FILE)
    shape = {"files": {str: {"path": str, "digest": str}}, "precision": str, "sha256": str}
    listed = read_json(path, REMEDY, shape=shape)
    if json_digest({name: listed[name] for name in ("files", "precision")}) != listed["sha256"]:
        raise InputError(f"{path}: damaged (its digest differs from the one that was written); {REMEDY}")
    return ClipList({key: ClipFile(**clip) for key, clip in listed["files"].items()}, listed["precision"])


def missing_features(folder: str | Path, keys: Mapping[str, str]) -> dict[str, str]:
    """Find the features to compute. A file that is cut short is logged and deleted.

    Args:
        folder: The folder of the `FeatureStore`.
        keys: Path to key of each clip.

    Returns:
        Key to path, ordered by path. Clips of equal content share a key; the first path is returned.
    """
    unique = {key: path for path, key in sorted(keys.items(), reverse=True)}
    missing = {key: path for key, path in sorted(unique.items(), key=lambda item: item[1]) if not _exists(folder, key)}
    log.info("features: %d clips, %d distinct, %d to compute", len(keys), len(unique), len(missing))
    return missing


def incomplete_shards(folder: str | Path) -> list[Path]:
    """Return the lists of shards, ``<folder>/shards/*.json``, that are damaged or name features without a file."""

    def is_complete(path: Path) -> bool:
        try:
            keys = read_json(path, REMEDY, shape={str: str})
        except InputError:
            return False
        return all(feature_path(folder, key).is_file() for key in keys.values())

    return [path for path in sorted(Path(folder, "shards").glob("*.json")) if not is_complete(path)]


def unnamed_features(folder: str | Path) -> list[Path]:
    """Return the files of features that no list of samples in the folder names, in order.

    Features of another number format, of other encoders and of clips that have left the data set remain in the folder.

    Raises:
        InputError: If a list is missing, as all files would count as unnamed.
    """
    paths = [Path(folder, f"{split}.json") for split in SPLITS]
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(
            f"{missing[0]}: is missing, so that every file would be deleted; run `snakemake features` first"
        )
    lists = [read_samples(path) for path in paths]
    named = {sample.get("features") for samples in lists for sample in samples}
    return sorted(path for path in Path(folder).glob("??/*.safetensors") if path.stem not in named)


def _exists(folder: str | Path, key: str) -> bool:
    path = feature_path(folder, key)
    try:
        with safe_open(
            path, framework="np"
        ):  # compares the length with the header's; `FeatureStore.read` does the rest
            return True
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError) as error:
        log.warning("%s: damaged (%s); computed again", path, error)
        path.unlink()
        return False
