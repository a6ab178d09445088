"""Is a clip whole, and would it be shown right? Every frame is decoded, in a process that may crash or hang.

A header says little: a clip cut in half still declares all its frames, and opens.
"""

import contextlib
import json
import os
import re
import selectors
import shlex
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mobilevideogpt.paths import leaves
from mobilevideogpt.video.reencode_reasons import NEEDS, command

if TYPE_CHECKING:  # what a worker runs belongs to this module's digest; importing it here would cost each job a while
    from mobilevideogpt.video import clip_check_worker  # noqa: F401

QUALITY = ("brightness", "sharpness", "motion")
FIELDS = (
    *("video", "verdict", "problems", "reencode", "digest", "bytes", "container", "codec", "frames", "frames_declared"),
    *("fps", "seconds", "width", "height", "pixel_aspect", "rotation", "decode_errors", *QUALITY),
    *("hashes", "hash_seconds"),
)
LARGEST_PIXELS = 4096 * 2304  # sixteen larger frames as RGB would take half a gigabyte
CHILD = [sys.executable, "-m", "mobilevideogpt.video.clip_check_worker"]
START_SECONDS = 120  # for a worker to import what it needs
WATCH_SECONDS = 0.25  # between looks at a worker's memory
_EXCLUDE = "or list it in dataset.exclude"


def probe(path: str | Path, *, timeout_seconds: float = 60.0, memory_gb: float = 4.0, **options) -> dict:
    """Decode a clip in full and judge it: `probe_many` of one."""
    limits = {"timeout_seconds": timeout_seconds, "memory_gb": memory_gb}
    [(_, record)] = probe_many([path], workers=1, **limits, **options)
    return record


def probe_many(
    paths: Iterable[str | Path],
    *,
    workers: int,
    timeout_seconds: float = 60.0,
    memory_gb: float = 4.0,
    data_root: str | Path | None = None,
    min_frames: int = 16,
) -> Iterator[tuple[str | Path, dict]]:
    """Decode clips in full and judge them, in worker processes that serve one clip after another.

    Never raises for what a clip is. A worker that takes too long, too much memory or crashes costs one record and is
    replaced; none outlives the iteration.

    Args:
        paths: The clips.
        workers: Processes at a time, of one thread each.
        timeout_seconds: A clip that takes longer is an error.
        memory_gb: Gigabytes; a clip that takes more is an error.
        data_root: If given, a link that leads out of this folder is an error.
        min_frames: Fewer are a warning: the model's empty places are filled with blank frames.

    Yields:
        Each path and its record of `FIELDS`, in the order in which they are done. ``verdict`` is ``ok``, ``warning`` or
        ``error``; ``problems`` are texts that end with the remedy; ``reencode`` lists the keys of `needs.NEEDS`
        that a new encoding would meet; what could not be found out is None. ``fps``, ``seconds`` and
        ``frames_declared`` are the header's, ``width`` and ``height`` (pixels) those of a frame before it is turned,
        ``rotation`` in degrees as FFmpeg gives it; quality is measured as in `probe_child.quality`.

    Raises:
        RuntimeError: If a worker does not start.
    """

    def judged(path: str | Path, found: dict) -> tuple[str | Path, dict]:
        return path, _record(str(path), found, min_frames)

    waiting, pool, exhausted = iter(paths), [], False
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                busy = [worker for worker in pool if worker.path is not None]
                while not exhausted and len(busy) < workers:
                    try:
                        path = next(waiting)
                    except StopIteration:
                        exhausted = True
                        break
                    if blocked := _not_a_file(path, data_root):
                        yield judged(path, {"blocked": blocked})
                        continue
                    worker = next((worker for worker in pool if worker.path is None), None)
                    if worker is None:
                        worker = _Worker(timeout_seconds, memory_gb)
                        pool.append(worker)
                        selector.register(worker.stdout, selectors.EVENT_READ)
                    worker.start(path)
                    busy.append(worker)
                if not busy:
                    return
                selector.select(WATCH_SECONDS)
                for worker in busy:
                    path, found = worker.path, worker.found()
                    if found is None:
                        continue
                    if worker.closed:
                        selector.unregister(worker.stdout)
                        pool.remove(worker)
                    yield judged(path, found)
        finally:
            for worker in pool:
                worker.kill()


class _Worker:
    """A process of `probe_child`, the clip that it is at, and what it has said of it so far."""

    def __init__(self, timeout_seconds: float, memory_gb: float):
        self.timeout_seconds, self.memory_gb = timeout_seconds, memory_gb
        self._too_large = f"takes more than {memory_gb:g} GB of memory to decode"
        self.path, self.closed = None, False
        self._said, self._ready = b"", False
        # FFmpeg's; its position is shared with the process
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        limits = [str(timeout_seconds), str(int(memory_gb * 1e9))]
        self._process = subprocess.Popen(
            [*CHILD, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._memory = psutil.Process(self._process.pid)
        self.stdout = self._process.stdout
        os.set_blocking(self.stdout.fileno(), False)

    def start(self, path: str | Path) -> None:
        """Hand the process a clip."""
        self.path, self._said = path, b""
        self._deadline = time.monotonic() + (self.timeout_seconds if self._ready else START_SECONDS)
        with contextlib.suppress(BrokenPipeError):  # it has died, as the end of what it says will tell
            self._process.stdin.write(json.dumps(os.path.abspath(path)).encode() + b"\n")
            self._process.stdin.flush()

    def found(self) -> dict | None:
        """Return what is known of the clip once that is all, else None; a worker of no more use is then `closed`."""
        ended = False
        while (chunk := self.stdout.read(65536)) is not None:  # None: nothing more for now
            if not chunk:
                ended = True
                break
            self._said += chunk
        *lines, _ = self._said.split(b"\n")
        said = [json.loads(line) for line in lines]
        if said and said[0] == {"ready": True}:
            self._ready = True
            self._said = self._said.split(b"\n", 1)[1]
            self._deadline = time.monotonic() + self.timeout_seconds
            del said[0]
        if len(said) == 2:
            self.path = None
            messages = self._messages_of_the_clip()
            short = "short_of_memory" in said[1]
            if short or self._rss() > self.memory_gb * 5e8:
                self.kill()  # the next clip is not to suffer for this one
            return said[0] | ({"killed": self._too_large} if short else said[1] | {"messages": messages})
        why = self._why_it_failed(ended)
        if why is None:
            return None
        self.kill()
        if not self._ready:
            raise RuntimeError(f"no process for checking clips starts: it {why}")
        self.path = None
        return {"killed": why, **(said[0] if said else {})}

    def _why_it_failed(self, ended: bool) -> str | None:
        if ended:
            status = self._process.wait()
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            last = self._messages_of_the_clip()[-1:]
            return f"crashed the decoder ({': '.join([how, *last])})"
        if time.monotonic() > self._deadline:
            return f"was not decoded within {self.timeout_seconds:g} s"
        return self._too_large if self._rss() > self.memory_gb * 1e9 else None

    def _rss(self) -> int:
        try:
            return self._memory.memory_info().rss
        except psutil.NoSuchProcess:
            return 0  # the next look finds its output ended

    def _messages_of_the_clip(self) -> list[str]:
        self._messages.seek(0)
        text = self._messages.read().decode(errors="replace")
        self._messages.seek(0)
        self._messages.truncate()
        lines = (re.sub(r" @ 0x[0-9a-f]+", "", line) for line in text.splitlines())  # no address: equal records
        return [line for line in lines if line.strip()]

    def kill(self) -> None:
        """End the process and leave nothing of it."""
        self.closed = True
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self.stdout, self._messages):
            with contextlib.suppress(BrokenPipeError):  # a path that was not read
                file.close()


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


def out_of_bounds(record: Mapping, bounds: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """Say where a clip's quality leaves bounds; apart from `probe_many`, so that new bounds need no new decoding.

    Args:
        record: A record of `FIELDS`.
        bounds: Least and most of measures named in `QUALITY`; None is no bound. What was not measured is not judged.
    """
    problems = []
    for name, (least, most) in bounds.items():
        value = record[name]
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            problems.append(f"{name} {value:g} is out of the bounds in integrity.{name}; film it anew, {_EXCLUDE}")
    return problems


def _record(path: str, found: dict, min_frames: int) -> dict:
    """The record of a clip, from what was found."""
    record = dict.fromkeys(FIELDS) | {name: found[name] for name in FIELDS if name in found}
    if "errors" in found:
        record["decode_errors"] = len(found["errors"]) + len(found["messages"]) + found["corrupt"]
    needs = _needs(found)
    errors, warnings = _judge(path, found, needs, min_frames)
    verdict = "error" if errors else "warning" if warnings else "ok"
    return record | {"video": path, "verdict": verdict, "problems": errors + warnings, "reencode": needs}


def _needs(found: dict) -> list[str]:
    """Keys of `NEEDS`: what is wrong with the clip that a new encoding would mend."""
    if "killed" in found:
        return ["decoder"]
    if not found.get("frames") or found["errors"] or found["messages"] or found["corrupt"]:
        return []
    large = found["width"] * found["height"] > LARGEST_PIXELS
    wrong = {**found, "pixels": found["pixel_aspect"] != 1, "large": large}
    return [need for need in NEEDS if wrong.get(need)]


def _judge(path: str, found: dict, needs: list[str], min_frames: int) -> tuple[list, list]:
    """Errors and warnings, each with its remedy."""
    if "blocked" in found:
        return [found["blocked"]], []
    reencode = f"re-encode it with `snakemake normalise` or `{command(path, needs)}`"
    if "killed" in found:
        return [f"{found['killed']}; {reencode}, {_EXCLUDE}"], []
    complaints = found["errors"] + found["messages"]
    why = f" ({complaints[0]})" if complaints else ""
    again = f"copy it again from its source, {_EXCLUDE}"
    if "codec" not in found:
        return [f"is no video that can be decoded{why}; {again}"], []
    frames = found["frames"]
    expected = max(found["expected"], (found["frames_declared"] or 0) - found["hidden"])
    if complaints or found["corrupt"] or not frames or frames < found["expected"]:
        return [f"is damaged{why}: {frames - found['corrupt']} of {expected} frames decode intact; {again}"], []
    errors, warnings = [], []
    if abs(expected - frames) > 1:
        warnings.append(f"{frames} of {expected} declared frames are there; {again}")
    if frames < min_frames:
        warnings.append(
            f"has {frames} frame{'s' * (frames > 1)}, fewer than the {min_frames} that the model looks at; "
            f"the rest is blank to it; take a longer clip, {_EXCLUDE}"
        )
    for need in needs:
        # frames of several sizes make no batch; the rest can be trained on, and misleads
        (errors if need == "size" else warnings).append(f"{NEEDS[need].problem}; {reencode}, {_EXCLUDE}")
    return errors, warnings
