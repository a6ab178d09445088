"""Checkpoints from the Hugging Face hub, each folder with a record of what lies in it."""

import fnmatch
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json

log = logging.getLogger(__name__)
RECORD = "fetched.json"
WAITS = (1, 2, 4, 8, 16)  # seconds, where the hub does not say how long
T = TypeVar("T")


def fetch(repo_id: str, folder: str | Path, revision: str = "main", patterns: Sequence[str] | None = None) -> dict:
    """Download files of a model repository, unless they are there already; an interrupted download goes on.

    A folder that was filled by hand is taken as it is, with a warning, where the hub cannot be reached.

    Args:
        repo_id: ``owner/name``.
        folder: Where the files go.
        revision: Branch, tag or commit.
        patterns: File names, ``*`` allowed; None takes all.

    Returns:
        What ``fetched.json``, written last, holds: ``repo_id``, ``revision`` (asked for), ``commit`` (found), ``files``
        (name to SHA-256).

    Raises:
        InputError: If the hub cannot be reached, or has no such repository, revision or file.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

    folder = Path(folder)
    if record := _complete(folder, repo_id, revision, patterns):
        return record
    where = f"{repo_id} (revision {revision})"
    try:
        info = patiently(lambda: HfApi().model_info(repo_id, revision=revision, files_metadata=True), HfHubHTTPError)
        large = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
        for _ in range(2):
            patiently(
                lambda: snapshot_download(repo_id, revision=info.sha, local_dir=folder, allow_patterns=patterns),
                (HTTPError, OSError),
            )
            found = {name: file_digest(folder / name) for name in _files(folder, patterns) if name in large}
            damaged = [name for name, digest in found.items() if digest != large[name]]
            for name in damaged:
                log.warning("%s: %s arrived damaged, its digest is not the one that the hub lists", where, name)
                (folder / name).unlink()
            if not damaged:
                break
        else:
            raise InputError(f"{where}: {', '.join(damaged)} arrived damaged twice; run the same command again later")
    except HfHubHTTPError as error:
        raise refusal(where, error) from error
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no name of a repository ({error}); write it as owner/name") from None
    except (ConnectionError, TimeoutError, HTTPError, LocalEntryNotFoundError) as error:
        files = _files(folder, patterns)
        if not _lacking(files, patterns):
            log.warning("%s: the hub cannot be reached; its files are taken as they lie there, unchecked", folder)
            return describe_folder(folder, repo_id=repo_id, revision=revision, patterns=patterns)
        raise InputError(
            f"{where}: cannot reach the hub ({type(error).__name__}); copy {', '.join(patterns or ['its files'])} "
            f"by hand to {folder}/ and run the same command again"
        ) from error
    if lacking := _lacking(_files(folder, patterns), patterns):
        raise InputError(f"{where}: the repository holds no {', '.join(lacking)}; check the name of the file")
    return describe_folder(folder, repo_id=repo_id, revision=revision, commit=info.sha, patterns=patterns)


def refusal(where: str, error) -> InputError:
    """What to do where the hub answers with an error (``HfHubHTTPError``)."""
    status = getattr(error.response, "status_code", None)
    remedy = {
        401: "check the name, or log in with `hf auth login`",
        403: "ask for access on its page, then `hf auth login`",
        404: "check the name and the revision",
    }.get(status, "try again later")
    return InputError(f"{where}: the hub answers {status or 'with an error'}; {remedy}")


def patiently(call: Callable[[], T], kinds: type | tuple[type, ...]) -> T:
    """Call again what failed for the moment.

    The client itself waits out a 429 where it lists and where it gets a file, but not where it resolves a revision;
    it does not ask again after a server's error amid the files, nor read a date in ``Retry-After``.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    for wait in (*WAITS, None):
        try:
            return call()
        except kinds as error:
            cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
            response = getattr(cause, "response", None)
            passing = response is None or response.status_code in (408, 429) or response.status_code >= 500
            if wait is None or not passing or getattr(cause, "errno", None):  # a full disk has a number
                raise
            seconds = wait if response is None else _asked_to_wait(response.headers.get("Retry-After"), wait)
            log.warning("%s; asking again in %.0f s", str(cause).strip().partition("\n")[0], seconds)
            time.sleep(seconds)


def _asked_to_wait(header: str | None, default: float) -> float:
    """Seconds that ``Retry-After`` asks for: a number of them, or a date."""
    try:
        if header.strip().isdigit():
            return float(header)
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (AttributeError, TypeError, ValueError):
        return default


def describe_folder(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    commit: str | None = None,
    patterns: Sequence[str] | None = None,
) -> dict:
    """Write ``fetched.json`` for files that lie in ``folder``, however they came there, and return it.

    Raises:
        InputError: If there is no file.
    """
    files = _files(Path(folder), patterns)
    if not files:
        raise InputError(f"{folder}: holds no file; copy the checkpoint there, or run `snakemake fetch`")
    digests = {name: file_digest(Path(folder, name)) for name in files}
    record = {"repo_id": repo_id, "revision": revision, "commit": commit, "files": digests}
    write_json(record, Path(folder, RECORD))
    return record


def _files(folder: Path, patterns: Sequence[str] | None) -> list[str]:
    """Names below ``folder`` that match; the hub client's own notes (``.cache``) do not count."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    own = (name for name in names if not name.startswith(".") and name != RECORD)
    return sorted(name for name in own if patterns is None or any(fnmatch.fnmatch(name, p) for p in patterns))


def _lacking(files: list[str], patterns: Sequence[str] | None) -> list[str]:
    if patterns is None:
        return [] if files else ["files"]
    return [pattern for pattern in patterns if not fnmatch.filter(files, pattern)]


def _complete(folder: Path, repo_id: str, revision: str, patterns: Sequence[str] | None) -> dict | None:
    """The record of a folder that holds what was fetched into it, unchanged."""
    if not (folder / RECORD).is_file():
        return None
    record = read_json(folder / RECORD, remedy="delete it; the files are then checked against the hub")
    if (record["repo_id"], record["revision"]) != (repo_id, revision) or _lacking(sorted(record["files"]), patterns):
        return None
    changed = [
        name
        for name, digest in record["files"].items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    ]
    if changed:
        log.warning("%s: %s changed since it was fetched; fetching again", folder, ", ".join(changed))
        return None
    return record
