"""Is a clip whole? Every frame is decoded, in a child process that may crash or hang without harm.

A header says little: a clip cut in half still declares all its frames, and opens.
"""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

from mobilevideogpt.files import file_digest
from mobilevideogpt.paths import leaves
from mobilevideogpt.video import probe_child

FIELDS = (
    *("video", "verdict", "problems", "digest", "bytes", "frames", "frames_declared", "fps", "seconds"),
    *("width", "height", "codec", "rotation"),
)
_EXCLUDE = "or list it in dataset.exclude"


def probe(
    path: str | Path,
    timeout_seconds: float = 60.0,
    *,
    data_root: str | Path | None = None,
    min_frames: int = 16,
    memory_bytes: int = 8 * 2**30,
) -> dict:
    """Decode a clip in full and judge it. Never raises for what the clip is, and never waits longer than the limit.

    Args:
        path: The clip.
        timeout_seconds: The child is killed after this time.
        data_root: If given, a link that leads out of this folder is an error.
        min_frames: Fewer are a warning: the model's empty places are filled with blank frames.
        memory_bytes: Limit of the child's address space.

    Returns:
        A record of `FIELDS`; ``verdict`` is ``ok``, ``warning`` or ``error``, ``problems`` are texts that end with the
        remedy, and what could not be found out is None. ``seconds``, ``fps`` and ``frames_declared`` are the header's.
    """
    record = dict.fromkeys(FIELDS) | {"video": str(path), "problems": []}
    errors, warnings = [], []
    if blocked := _not_a_file(path, data_root):
        errors.append(blocked)
    else:
        record |= {"digest": file_digest(path), "bytes": os.path.getsize(path)}
        found = _decode(os.path.abspath(path), timeout_seconds, memory_bytes)
        record |= {name: found[name] for name in FIELDS if name in found}
        errors, warnings = _judge(str(path), found, min_frames)
    record["verdict"] = "error" if errors else "warning" if warnings else "ok"
    record["problems"] = errors + warnings
    return record


def _not_a_file(path: str | Path, data_root: str | Path | None) -> str | None:
    """Why ``path`` cannot be read as a file; found without opening it, since a FIFO would block."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        kind = "a link to a file that is not there" if os.path.islink(path) else "not there"
        return f"the file is {kind}; put the clip there, {_EXCLUDE}"
    except OSError as error:
        return f"the file cannot be looked at ({error.strerror}); correct its name or permissions, {_EXCLUDE}"
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        return f"is {kind}, not a file; put the clip there, {_EXCLUDE}"
    if data_root is not None and leaves(str(path), str(data_root)):
        return f"is a link that leads out of {data_root}/; copy the clip there, {_EXCLUDE}"
    if not os.access(path, os.R_OK):
        return f"may not be read; allow it with `chmod u+r {shlex.quote(str(path))}`, {_EXCLUDE}"
    if status.st_size == 0:
        return f"the file is empty; copy it again from its source, {_EXCLUDE}"
    return None


def _decode(path: str, timeout_seconds: float, memory_bytes: int) -> dict:
    """What the child found, or ``{"killed": why}``."""
    command = [sys.executable, "-m", probe_child.__name__, path, str(memory_bytes)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return {"killed": f"was not decoded within {timeout_seconds:g} s"}
    try:
        found = json.loads(child.stdout)
    except ValueError:
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit status {child.returncode}"
        return {"killed": f"crashed the decoder ({how}{_last_line(child.stderr)})"}
    lines = (re.sub(r" @ 0x[0-9a-f]+", "", line) for line in child.stderr.splitlines())  # no address: equal records
    found["errors"] += [line for line in lines if line.strip()]
    return found


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def _judge(path: str, found: dict, min_frames: int) -> tuple[list[str], list[str]]:
    """Errors and warnings, each with its remedy."""
    if "killed" in found:
        return [f"{found['killed']}; re-encode it with `{_reencode(path)}`, {_EXCLUDE}"], []
    frames, declared = found["frames"], found.get("frames_declared")
    if "codec" not in found:
        why = found["errors"][0] if found["errors"] else "there is no video stream"
        return [f"is no video that can be decoded ({why}); copy it again from its source, {_EXCLUDE}"], []
    of = f" of {declared}" if declared else ""
    if found["errors"] or found["corrupt"] or not frames:
        why = f" ({found['errors'][0]})" if found["errors"] else ""
        intact = frames - found["corrupt"]
        return [f"is damaged{why}: {intact}{of} frames decode intact; copy it again from its source, {_EXCLUDE}"], []
    warnings = []
    if declared and abs(declared - frames) > 1:
        warnings.append(f"{frames}{of} declared frames are there; re-encode it with `{_reencode(path)}`, {_EXCLUDE}")
    if frames < min_frames:
        warnings.append(
            f"has {frames} frame{'s' * (frames > 1)}, fewer than the {min_frames} that the model looks at; "
            f"the rest is blank to it; take a longer clip, {_EXCLUDE}"
        )
    if found["rotation"]:  # decord2 3.4 turns the frames, adds an alpha channel, and then cannot batch them
        return [
            f"carries a rotation flag ({found['rotation']} degrees), which the training's decoder cannot read; "
            f"turn the frames themselves with `{_reencode(path)}`, {_EXCLUDE}"
        ], warnings
    return [], warnings


def _reencode(path: str) -> str:
    """FFmpeg's command for a clip that every decoder reads; it applies a rotation flag."""
    target = str(Path(path).with_suffix("")) + "-reencoded.mp4"
    return f"ffmpeg -i {shlex.quote(path)} -c:v libx264 -crf 18 -pix_fmt yuv420p -an {shlex.quote(target)}"
