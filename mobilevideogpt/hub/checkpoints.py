"""Download checkpoints from the Hugging Face hub; ``fetched.json`` in each folder lists its files."""

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json
from mobilevideogpt.hub.retry import refused, retry
from mobilevideogpt.paths import FETCHED, FETCHED_SHAPE
from mobilevideogpt.tiny_base import TRY
from mobilevideogpt.wording import agree, counted

log = logging.getLogger(__name__)


def fetch(
    repo_id: str,
    folder: str | Path,
    revision: str = "main",
    patterns: Sequence[str] | None = None,
    missing: Sequence[str] = (),
) -> dict:
    """Download files of a model repository, unless they are there; an interrupted download resumes.

    If the hub cannot be reached, a folder that somebody filled by hand is used unchecked, with a warning.

    Args:
        repo_id: ``owner/name``.
        folder: Destination of the files.
        revision: Branch, tag or commit.
        patterns: File names, ``*`` allowed; None: all files.
        missing: All repositories that are still to be downloaded, for the message if the hub cannot be reached.

    Returns:
        The content of ``fetched.json``, which is written last: ``repo_id``, ``revision`` (as given), ``commit`` (found
        for it), ``files`` (name to SHA-256).

    Raises:
        InputError: If the hub cannot be reached, or has no such repository, revision or file.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        LocalEntryNotFoundError,
    )

    folder = Path(folder)
    if record := _read_unchanged(folder, repo_id, revision, patterns):
        return record
    where = f"{repo_id} (revision {revision})"
    try:
        commit = _download(repo_id, revision, folder, patterns, where)
    except HfHubHTTPError as error:
        raise refused(where, error) from error
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is not a valid repository name ({error}); write it as owner/name") from None
    except (ConnectionError, TimeoutError, HTTPError, LocalEntryNotFoundError) as error:
        if not _missing(_list_files(folder, patterns), patterns):
            log.warning("%s: the hub cannot be reached; the files in this folder are used unchecked", folder)
            return describe_folder(folder, repo_id=repo_id, revision=revision, patterns=patterns)
        raise InputError(_unreachable(where, error, folder, patterns, missing)) from error
    if missing := _missing(_list_files(folder, patterns), patterns):
        raise InputError(f"{where}: the repository contains no {', '.join(missing)}; check the name of the file")
    return describe_folder(folder, repo_id=repo_id, revision=revision, commit=commit, patterns=patterns)


def _unreachable(
    where: str, error: Exception, folder: Path, patterns: Sequence[str] | None, missing: Sequence[str]
) -> str:
    """Return the message for all downloads at once."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    names = list(missing) or [where]
    needed = f"{counted(len(names), 'download{s}')} {agree(len(names), '{needs|need}')}: {', '.join(names)}"
    offline = isinstance(error, OfflineModeIsEnabled)
    remedy = "To ask it, unset HF_HUB_OFFLINE" if offline else "Check the connection, or set HF_ENDPOINT to a mirror"
    by_hand = ", ".join(patterns or ["the files of the repository"])
    return (
        f"cannot reach the hub at {constants.ENDPOINT} ({type(error).__name__}), which {needed}. {remedy}, and "
        "run the same command again; or run `snakemake fetch` on another machine "
        f"and copy its checkpoints/ here (by hand: {by_hand} of {where} to {folder}/); {TRY}"
    )


def _download(repo_id: str, revision: str, folder: Path, patterns: Sequence[str] | None, where: str) -> str | None:
    """Download, compare large files with the digests that the hub lists, and return the commit.

    Raises:
        InputError: If a file is damaged after a second download.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    info = retry(
        lambda: HfApi().model_info(repo_id, revision=revision, files_metadata=True),
        (HfHubHTTPError, HTTPError, ConnectionError, TimeoutError),
    )
    listed = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
    damaged: list[str] = []
    for _ in range(2):
        retry(
            lambda: snapshot_download(
                repo_id, revision=info.sha, local_dir=folder, allow_patterns=list(patterns) if patterns else None
            ),
            (HTTPError, OSError),
        )
        large = [name for name in _list_files(folder, patterns) if name in listed]
        damaged = [name for name in large if file_digest(folder / name) != listed[name]]
        if not damaged:
            return info.sha
        for name in damaged:
            log.warning("%s: %s arrived damaged: its digest differs from the one that the hub lists", where, name)
            (folder / name).unlink()
    raise InputError(f"{where}: {', '.join(damaged)} arrived damaged twice; run the same command again later")


def describe_folder(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    commit: str | None = None,
    patterns: Sequence[str] | None = None,
) -> dict:
    """Write ``fetched.json`` for the files in ``folder``, downloaded or copied, and return its content.

    Raises:
        InputError: If there is no file.
    """
    files = _list_files(Path(folder), patterns)
    if not files:
        raise InputError(f"{folder}: contains no file; copy the checkpoint there, or run `snakemake fetch`")
    digests = {name: file_digest(Path(folder, name)) for name in files}
    record = {"repo_id": repo_id, "revision": revision, "commit": commit, "files": digests}
    write_json(record, Path(folder, FETCHED))
    return record


def _list_files(folder: Path, patterns: Sequence[str] | None) -> list[str]:
    """List the names below ``folder`` that match; the hub client's own files (``.cache``) do not count."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    fetched = (name for name in names if not name.startswith(".") and name != FETCHED)
    return sorted(name for name in fetched if patterns is None or any(fnmatch.fnmatch(name, p) for p in patterns))


def _missing(files: list[str], patterns: Sequence[str] | None) -> list[str]:
    """List the patterns that no file matches."""
    if patterns is None:
        return [] if files else ["files"]
    return [pattern for pattern in patterns if not fnmatch.filter(files, pattern)]


def _read_unchanged(folder: Path, repo_id: str, revision: str, patterns: Sequence[str] | None) -> dict | None:
    """Read ``fetched.json`` of a folder whose files are complete and unchanged since the download; else None."""
    if not (folder / FETCHED).is_file():
        return None
    record = read_json(folder / FETCHED, "delete it; the files are then checked against the hub", shape=FETCHED_SHAPE)
    if (record["repo_id"], record["revision"]) != (repo_id, revision) or _missing(sorted(record["files"]), patterns):
        return None
    changed = [
        name
        for name, digest in record["files"].items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]
    if changed:
        log.warning("%s: %s changed since the download; downloading again", folder, ", ".join(changed))
        return None
    return record
