"""A run's checkpoints and adapter, their fingerprints, and its lock. Standard library and filelock only."""

import json
import logging
import math
import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import Path

import filelock

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, json_digest, read_json, remade_by, write_json

logger = logging.getLogger(__name__)

FINGERPRINT = "digest.json"  # written last into a checkpoint or an adapter
RUN_RECORD = "train.json"  # in the run's folder and in the adapter's
ADAPTER = "adapter"
CARD = "README.md"  # of an adapter; its scores change with each evaluation
RUN_RECORD_SHAPE = {
    **{"run": str, "digest": str, "digests": dict, "precision": str, "keep": str, "logs": {"steps": str}},
    **{"adapter": str, "adapter_content": str, "kept": str, "adapters": {str: dict}, "losses": dict, "this_run": dict},
}
PREFLIGHT_SHAPE = {
    **{"ok": bool, "checks": [dict], "machine": dict, "device": object},
    "batch": ({"micro": int, "gradient_checkpointing": bool}, None),
}
# What a finished training leaves beside its declared outputs and its adapter.
BESIDE = ("log.jsonl", "trainer_state.json", "config.yaml", f"{ADAPTER}-best", f"{ADAPTER}-last", "tensorboard")
STALE = "stale"  # folder of checkpoints that cannot be resumed
Digest = Callable[[Path], str]  # the SHA-256 of a file


@dataclass(frozen=True)
class Fingerprint:
    """Identifies what a checkpoint or an adapter was made from.

    ``digest`` covers all that affects the result. Any number of processes resumes it: without DeepSpeed, one of them
    saves all; under DeepSpeed, each saves its own share of the optimizer's state, see `universal.write_universal`.
    """

    digest: str
    processes: int
    deepspeed: str | None

    def is_resumed_by(self, other: "Fingerprint") -> bool:
        """Whether a training of fingerprint ``other`` resumes a checkpoint of this one."""
        return (self.digest, self.deepspeed) == (other.digest, other.deepspeed)


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Write the fingerprint of a folder, with the size of each file and digests of their content and the run record."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in {FINGERPRINT, CARD})
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    digests = {"content": content_digest(folder), "record": _record_digest(folder)}
    write_json(asdict(fingerprint) | {"bytes": sizes} | digests, folder / FINGERPRINT)


def content_digest(folder: Path, digest: Digest = file_digest) -> str:
    """SHA-256 over names and bytes of a folder's files, but for the fingerprint, the run record and the model card."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    own = {FINGERPRINT, RUN_RECORD, CARD}
    return json_digest({str(p.relative_to(folder)): digest(p) for p in files if p.name not in own})


def _record_digest(folder: Path, digest: Digest = file_digest) -> str | None:
    return digest(record) if (record := folder / RUN_RECORD).is_file() else None


def recorded_content(folder: Path) -> str | None:
    """Return the digest of the content as it was written; None if the folder has none."""
    return _recorded(folder, "content")


def _recorded(folder: Path, name: str) -> str | None:
    try:
        return json.loads((folder / FINGERPRINT).read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None


def is_unchanged(folder: Path, digest: Digest = file_digest) -> bool:
    """Whether the files of a folder are those that its fingerprint describes; reads them all.

    Args:
        folder: A checkpoint or an adapter.
        digest: Returns the SHA-256 of a file, see `digest_cache.cached_digests`.
    """
    try:
        record = _recorded(folder, "record")
        return recorded_content(folder) == content_digest(folder, digest) and record == _record_digest(folder, digest)
    except OSError:  # another process has moved it
        return False


def record_beside(run_folder: Path, without: Collection[str] = ()) -> None:
    """Add to the adapter's fingerprint what the training left beside it: sizes and digests.

    Args:
        run_folder: The run's folder.
        without: Names of lost files, relative to it.
    """
    entries = [run_folder / name for name in BESIDE]
    files = [file for entry in entries for file in ([entry] if entry.is_file() else sorted(entry.rglob("*")))]
    beside = {
        name: {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in files
        if file.is_file() and (name := file.relative_to(run_folder).as_posix()) not in without
    }
    path = run_folder / ADAPTER / FINGERPRINT
    write_json(read_json(path, shape=dict) | {"beside": beside}, path)


def lost_beside(run_folder: str | Path, digest: Digest = file_digest) -> list[str]:
    """Return the files beside the adapter that are gone or damaged, see `record_beside`.

    Args:
        run_folder: The run's folder.
        digest: Returns the SHA-256 of a file, see `digest_cache.cached_digests`.
    """
    folder, shape = Path(run_folder), {"beside": {str: {"bytes": int, "sha256": str}}}
    try:
        beside = read_json(folder / ADAPTER / FINGERPRINT, shape=shape)["beside"]
    except InputError:
        return []
    sized = {name for name, kept in beside.items() if _size(folder / name) == kept["bytes"]}
    intact = {name for name in sized if digest(folder / name) == beside[name]["sha256"]}
    return [name for name in beside if name not in intact]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """Return the fingerprint of a folder; None if the folder is incomplete. Compares sizes, reads no content."""
    try:
        content = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
        sizes = content.pop("bytes")
        for name in ("content", "record", "beside"):
            content.pop(name, None)
        complete = all((folder / name).stat().st_size == size for name, size in sizes.items())
        return Fingerprint(**content) if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def step_of(checkpoint: Path) -> int:
    """Return N of ``checkpoint-N``."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def numbered_checkpoints(run_folder: Path) -> list[Path]:
    """Return the folders ``checkpoint-N``, sorted by N."""
    found = [path for path in run_folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=step_of)


def newest_checkpoint(
    run_folder: Path, fingerprint: Fingerprint, before: float = math.inf, verified: bool = False
) -> Path | None:
    """Return the newest checkpoint that a training of this fingerprint resumes, whose step is below ``before``.

    With ``verified``, its content is read and is that which was written.
    """
    candidates = (path for path in reversed(numbered_checkpoints(run_folder)) if step_of(path) < before)
    found = (path for path in candidates if mismatch(read_fingerprint(path), fingerprint) is None)
    return next((path for path in found if not verified or is_unchanged(path)), None)


def prune_checkpoints(run_folder: Path, newest: int, best_step: int | None) -> None:
    """Delete all checkpoints but the newest ones and that of the best step."""
    for checkpoint in numbered_checkpoints(run_folder)[:-newest]:
        if step_of(checkpoint) != best_step:
            (checkpoint / FINGERPRINT).unlink(missing_ok=True)  # first: a kill must leave it visibly incomplete
            shutil.rmtree(checkpoint)


class Mismatch(Enum):
    """Why a checkpoint cannot be resumed."""

    INCOMPLETE = auto()
    DAMAGED = auto()
    INPUTS = auto()
    STAGE = auto()


_MISMATCHES = {
    Mismatch.INCOMPLETE: "is incomplete",
    Mismatch.DAMAGED: "is damaged",
    Mismatch.INPUTS: "was made from other data, settings or code",
    Mismatch.STAGE: "was made under another DeepSpeed stage",
}


def mismatch(found: Fingerprint | None, expected: Fingerprint) -> Mismatch | None:
    """Return why a checkpoint of fingerprint ``found`` cannot be resumed; None if it can."""
    if found is None:
        return Mismatch.INCOMPLETE
    if found.digest != expected.digest:
        return Mismatch.INPUTS
    return None if found.is_resumed_by(expected) else Mismatch.STAGE


def archive_stale_checkpoints(run_folder: Path, fingerprint: Fingerprint) -> None:
    """Move checkpoints that cannot be resumed to ``stale/<digest>/``. An older one is read if the newest is damaged."""
    resumable = False
    for checkpoint in reversed(numbered_checkpoints(run_folder)):
        found = read_fingerprint(checkpoint)
        reason = mismatch(found, fingerprint)
        if not reason and not resumable:
            resumable = is_unchanged(checkpoint)
            reason = None if resumable else Mismatch.DAMAGED
        if not reason:
            continue
        name = "damaged" if reason is Mismatch.DAMAGED else found.digest[:12] if found else "incomplete"
        archive = run_folder / STALE / name / checkpoint.name
        shutil.rmtree(archive, ignore_errors=True)
        archive.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.rename(archive)
        logger.warning(
            "%s %s; not resumed, moved to %s, which may be deleted", checkpoint, _MISMATCHES[reason], archive
        )


def delete_half_written(run_folder: Path) -> None:
    """Delete the temporary folders of a run that was killed."""
    for folder in [*run_folder.glob(".checkpoint-*"), *run_folder.glob(".adapter-*")]:
        logger.warning("%s: a killed run left this half-written folder; deleted", folder)
        shutil.rmtree(folder)


def finished(run_folder: str | Path, digest: str, keep: str) -> dict | None:
    """Return the run record of a finished training.

    Args:
        run_folder: The run's folder.
        digest: That of the training.
        keep: Which adapter should be there, ``best`` or ``last``.

    Returns:
        None if the adapter is missing, incomplete, damaged, of another digest or another ``keep``.
    """
    adapter = Path(run_folder) / ADAPTER
    found = read_fingerprint(adapter)
    if found is None or found.digest != digest or not is_unchanged(adapter):
        return None
    try:
        record = read_json(adapter / RUN_RECORD, shape={"keep": str})
    except InputError:
        return None
    return record if record["keep"] == keep else None


def adapter_is_intact(run_folder: str | Path, digest: Digest = file_digest) -> bool:
    """Whether the adapter is complete and is the one that the run record describes; True without a record.

    What the training left beside it has to be there, too.

    Args:
        run_folder: The run's folder.
        digest: Returns the SHA-256 of a file, see `digest_cache.cached_digests`.
    """
    folder, record = Path(run_folder), Path(run_folder) / RUN_RECORD
    if not record.exists():
        return True
    adapter = folder / ADAPTER
    found = read_fingerprint(adapter)
    try:
        trained = json.loads(record.read_text(encoding="utf-8"))
        if (
            found is None
            or found.digest != trained["digest"]
            or recorded_content(adapter) != trained["adapter_content"]
        ):
            return False
        return is_unchanged(adapter, digest) and not lost_beside(folder, digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_run_record(run_folder: str | Path) -> dict:
    """Read ``train.json``, see `run_record.run_record`.

    Raises:
        InputError: If the file is missing or malformed.
    """
    return read_json(Path(run_folder, RUN_RECORD), remade_by("finetune"), shape=RUN_RECORD_SHAPE)


def read_preflight(path: str | Path) -> dict:
    """Read ``preflight.json``, see `preflight.preflight`.

    Raises:
        InputError: If the file is missing or malformed.
    """
    return read_json(path, remade_by("preflight"), shape=PREFLIGHT_SHAPE)


def verified_adapter(run_folder: str | Path) -> Path:
    """Return the folder of the adapter that the run record describes, once its content is known to be the same.

    Raises:
        InputError: If the run has no record, or the adapter's files are not those that its training wrote.
    """
    record = Path(run_folder) / RUN_RECORD
    trained = read_json(record, remade_by("finetune"), shape={"adapter": str, "adapter_content": str})
    adapter = Path(run_folder) / trained["adapter"]
    if not adapter.is_dir() or content_digest(adapter) != trained["adapter_content"]:
        raise InputError(
            f"{adapter}: these files are not those that the training of {record} wrote; copy the whole run again, or "
            "run `snakemake --forcerun finetune`"
        )
    return adapter


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Lock the run's folder; the operating system releases the lock however the process ends.

    Raises:
        InputError: If another process has the lock; the message names it.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    holder = run_folder / ".lock-holder.json"
    try:
        with filelock.FileLock(run_folder / ".lock", timeout=0):
            write_json({"pid": os.getpid(), "host": socket.gethostname()}, holder)
            yield
    except filelock.Timeout:
        try:
            other = read_json(holder, shape={"pid": int, "host": str})
        except InputError:
            other = {"pid": "?", "host": "?"}
        raise InputError(
            f"{run_folder}: process {other['pid']} on {other['host']} is training here; wait for it or stop it"
        ) from None
