"""Re-encoded files of clips that would otherwise be shown wrongly; the originals are not changed.

Each clip is encoded by a process of its own, `reencode_worker`.
"""

import logging
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
from av.error import FFmpegError

from mobilevideogpt.checksums import changed_files
from mobilevideogpt.files import json_digest, replacing
from mobilevideogpt.video import reencode_worker
from mobilevideogpt.video.clip_check import check_clips
from mobilevideogpt.video.clip_status import Status
from mobilevideogpt.video.reencode_reasons import Reason

log = logging.getLogger(__name__)
TIMEOUT_FACTOR = 20  # encoding may take this many times as long as decoding
MEMORY_FACTOR = 2


class _Task(NamedTuple):
    video: str
    target: Path
    reasons: list[Reason]
    digest: str  # of the original
    fingerprint: str  # of the original, the reasons and the code


def reencode_clips(
    checks: Iterable[Mapping],
    data_root: str | Path,
    folder: str | Path,
    *,
    workers: int,
    timeout_seconds: float,
    memory_gb: float,
    code: str = "",
) -> dict[str, dict]:
    """Re-encode the clips whose check gives a reason, to ``<folder>/<clip>.mp4``; keep new files that are up to date.

    Args:
        checks: Clip checks, as `clip_check.check_clips` yields them.
        data_root: The data set's folder; clips keep their path below it.
        folder: Where the new files go. Other MP4 files in it are deleted, and those that its SHA256SUMS does not fit.
        workers: Clips at a time.
        timeout_seconds: Limit of the clip check; encoding gets `TIMEOUT_FACTOR` times as much.
        memory_gb: Limit of the clip check; encoding gets `MEMORY_FACTOR` times as much.
        code: Digest of the code that encodes; files made by other code are made again.

    Returns:
        An entry for each clip, by its path: ``of``, the digest of the original, and either ``file`` and ``digest`` of
        the new file, or ``problem``, why there is no new file.
    """
    _delete_damaged(Path(folder))
    tasks = [_task(check, Path(data_root), Path(folder), code) for check in checks if check["reencode"]]
    for stale in {*Path(folder).rglob("*.mp4")} - {task.target for task in tasks}:
        stale.unlink()

    def encode(task: _Task) -> str | None:
        if _fingerprint_in(task.target) == task.fingerprint:
            return None
        log.info("%s: re-encoding to %s", task.video, task.target)
        return _encode(task, TIMEOUT_FACTOR * timeout_seconds, MEMORY_FACTOR * memory_gb)

    with ThreadPoolExecutor(workers) as pool:
        problems = list(pool.map(encode, tasks))
    targets = [task.target for task, problem in zip(tasks, problems, strict=True) if problem is None]
    new_checks = dict(check_clips(targets, workers=workers, timeout_seconds=timeout_seconds, memory_gb=memory_gb))
    return {
        task.video: {"of": task.digest} | _outcome(task, problem, new_checks.get(task.target))
        for task, problem in zip(tasks, problems, strict=True)
    }


def _delete_damaged(folder: Path) -> None:
    """Delete files that differ from the sums of the last run. Those of a killed run have no sum yet, but are whole."""
    with suppress(OSError, ValueError):
        for file in changed_files(folder):
            log.warning("%s: lost or damaged; made again", file)
            file.unlink(missing_ok=True)


def _task(check: Mapping, data_root: Path, folder: Path, code: str) -> _Task:
    clip = Path(check["video"]).relative_to(data_root)
    name = clip.name if clip.suffix == ".mp4" else f"{clip.name}.mp4"
    reasons = [Reason(reason) for reason in check["reencode"]]
    fingerprint = json_digest([check["digest"], reasons, code])
    return _Task(check["video"], folder / clip.with_name(name), reasons, check["digest"], fingerprint)


def _outcome(task: _Task, problem: str | None, new_check: Mapping | None) -> dict[str, str]:
    if new_check and (new_check["verdict"] == Status.ERROR or new_check["reencode"]):
        problem = "; ".join(new_check["problems"])
    if problem or not new_check:
        return {"problem": problem or "was not checked"}
    return {"file": str(task.target), "digest": new_check["digest"]}


def _fingerprint_in(file: Path) -> str | None:
    """Return the fingerprint that `reencode` wrote into a file."""
    try:
        with av.open(str(file)) as container:
            return container.metadata.get("comment")
    except (FFmpegError, OSError):
        return None


def _encode(task: _Task, timeout_seconds: float, memory_gb: float) -> str | None:
    """Encode in a process of its own, which may hang or crash; return the problem, if any."""
    try:
        with replacing(task.target) as temporary:
            command = reencode_worker.child_command(
                task.video, temporary, task.reasons, task.fingerprint, timeout_seconds, int(memory_gb * 1e9)
            )
            subprocess.run(
                command, check=True, capture_output=True, text=True, errors="replace", timeout=timeout_seconds
            )
    except subprocess.TimeoutExpired:
        return f"was not re-encoded within {timeout_seconds:g} s"
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return f"could not be re-encoded ({last})"
    return None
