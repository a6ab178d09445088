"""Clips that are used as re-encoded files in place of what the user has; the originals stay as they are."""

import logging
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av

from mobilevideogpt.files import json_digest, replacing
from mobilevideogpt.video import reencode_worker
from mobilevideogpt.video.clip_check import probe_many

log = logging.getLogger(__name__)
NORMALISE_TIMES = 20  # as long as decoding may take


def normalise_clips(
    records: Iterable[Mapping],
    data_root: str | Path,
    folder: str | Path,
    *,
    workers: int,
    timeout_seconds: float,
    memory_gb: float,
    code: str = "",
) -> dict[str, dict]:
    """Re-encode the clips whose record asks for it to ``<folder>/<clip>.mp4``, unless that was done before.

    Args:
        records: Records of `integrity.probe_many`.
        data_root: The data set's folder; clips keep their place below it.
        folder: Where the new files go. Files there that nobody asks for any more are deleted.
        workers: Clips at a time.
        timeout_seconds: That of the check; encoding may take longer, by `NORMALISE_TIMES`.
        memory_gb: Likewise; twice as much.
        code: Digest of the code that encodes; files made by other code are made anew.

    Returns:
        For each clip, by its path: ``of``, the digest of the original; and ``file`` and ``digest`` of the new file, or
        ``problem``, why there is none.
    """
    wanted, folder = {}, Path(folder)
    for record in records:
        if record["reencode"]:
            clip = Path(record["video"]).relative_to(data_root)
            name = clip.name if clip.suffix == ".mp4" else f"{clip.name}.mp4"
            mark = json_digest([record["digest"], record["reencode"], code])
            wanted[record["video"]] = (record, folder / clip.with_name(name), mark)
    for file in folder.rglob("*.mp4"):
        if file not in {target for _, target, _ in wanted.values()}:
            file.unlink()

    def encode(one: tuple[Mapping, Path, str]) -> str | None:
        record, target, mark = one
        if _mark(target) == mark:
            return None
        log.info("%s: re-encoding to %s", record["video"], target)
        return _encode(
            record["video"], target, record["reencode"], mark, NORMALISE_TIMES * timeout_seconds, 2 * memory_gb
        )

    with ThreadPoolExecutor(workers) as pool:
        problems = dict(zip(wanted, pool.map(encode, wanted.values()), strict=True))
    targets = [target for video, (_, target, _) in wanted.items() if problems[video] is None]
    limits = {"timeout_seconds": timeout_seconds, "memory_gb": memory_gb}
    checked = dict(probe_many(targets, workers=workers, **limits))
    index = {}
    for video, (record, target, _) in wanted.items():
        problem, found = problems[video], checked.get(target)
        if found and (found["verdict"] == "error" or found["reencode"]):
            problem = "; ".join(found["problems"])
        done = {"problem": problem} if problem else {"file": str(target), "digest": found["digest"]}
        index[video] = {"of": record["digest"], **done}
    return index


def _mark(file: Path) -> str | None:
    """What a file says it was made from."""
    try:
        with av.open(str(file)) as container:
            return container.metadata.get("comment")
    except (av.error.FFmpegError, OSError):
        return None


def _encode(path: str, target: Path, needs: list[str], mark: str, seconds: float, gigabytes: float) -> str | None:
    """Encode in a process of its own, which may hang or crash; return what went wrong."""
    try:
        with replacing(target) as temporary:
            command = reencode_worker.child_command(path, temporary, needs, mark, seconds, int(gigabytes * 1e9))
            subprocess.run(command, check=True, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"was not re-encoded within {seconds:g} s"
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return f"could not be re-encoded ({last})"
    return None
