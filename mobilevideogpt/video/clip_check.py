"""The clip check: every frame of a clip is decoded, in a child process (`clip_check_worker`) that may crash or hang.

A header says little: a clip cut in half still declares all its frames, and opens.
"""

import contextlib
import json
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import leaves
from mobilevideogpt.segments import segment_of
from mobilevideogpt.video.clip_check_messages import Decoded, FileFacts, Kind, Message
from mobilevideogpt.video.clip_status import OR_EXCLUDE, Outcome, clip_check
from mobilevideogpt.video.sampling import NUM_FRAMES

if TYPE_CHECKING:  # adds the worker's code to this module's digest; a real import would slow down each job
    from mobilevideogpt.video import clip_check_worker  # noqa: F401

CHILD = [sys.executable, "-m", "mobilevideogpt.video.clip_check_worker"]
START_SECONDS = 120  # for a worker to import what it needs
WATCH_SECONDS = 0.25  # between two looks at the memory of a worker
# Signals by which the system or a person ends a process, and not the clip: no verdict on it may stay.
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
REPLACE_SHARE = 0.5  # of the memory limit; a worker that uses more is replaced after its clip


def check_clip(path: str | Path, *, timeout_seconds: float = 60.0, memory_gb: float = 4.0, **options) -> dict:
    """Check one clip; see `check_clips`."""
    limits = {"timeout_seconds": timeout_seconds, "memory_gb": memory_gb}
    [(_, check)] = check_clips([path], workers=1, **limits, **options)
    return check


def check_clips(
    paths: Iterable[str | Path],
    *,
    workers: int,
    timeout_seconds: float = 60.0,
    memory_gb: float = 4.0,
    data_root: str | Path | None = None,
    min_frames: int = NUM_FRAMES,
    segments: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[tuple[str | Path, dict]]:
    """Decode clips in full, in worker processes that serve one clip after another.

    A faulty clip raises no exception. A worker that takes too long or too much memory, or crashes, fails one clip and
    is replaced. All workers end with the iteration.

    Args:
        paths: The clips.
        workers: Processes at a time, of one thread each.
        timeout_seconds: A clip that takes longer is an error.
        memory_gb: Gigabytes; a clip that takes more is an error.
        data_root: If given, a link to a file outside this folder is an error.
        min_frames: Fewer frames are a warning: the model receives blank frames in their place.
        segments: The clips that are segments, by their file. What the model sees of these is then found, in the place
            of what it sees of the whole file.

    Yields:
        Each path and its clip check, with the keys `clip_status.FIELDS`, in the order of completion. ``verdict`` is the
        status: ``ok``, ``warning`` or ``error``. ``problems`` are texts that end with the remedy. ``reencode`` lists
        the values of `Reason` that re-encoding fixes. Unknown values are None. ``fps``, ``seconds`` and
        ``frames_declared`` are the header's; ``width`` and ``height`` (pixels) are those of a frame before its display
        matrix is applied; ``rotation`` is in degrees as FFmpeg counts them; see `clip_check_worker.quality` for
        ``brightness``, ``sharpness`` and ``motion``. ``seen`` is the share of the clip's time that the model sees, and
        ``reader_difference`` how far the model's frames are from those of a player, 0 to 255. ``segments`` has the
        fields of `clip_check_messages.Seen` for each segment with a frame, by its start and end.

    Raises:
        InputError: If a worker is ended from outside.
        RuntimeError: If a worker does not start.
    """
    pool = _Pool(timeout_seconds, memory_gb)
    remaining = iter(paths)
    with pool:
        while True:
            while len(pool.busy()) < workers and (path := next(remaining, None)) is not None:
                if obstacle := _obstacle(path, data_root):
                    yield path, clip_check(path, Outcome(obstacle=obstacle), min_frames)
                else:
                    pool.start(path, (segments or {}).get(str(path), ()))
            if not pool.busy():
                return
            for path, outcome in pool.completed():
                yield path, clip_check(path, outcome, min_frames)


class _Pool:
    """Workers, started as needed and reused; all are killed at the end of the ``with`` block."""

    def __init__(self, timeout_seconds: float, memory_gb: float):
        self._limits = timeout_seconds, memory_gb
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.kill()
        self._selector.close()

    def busy(self) -> list["_Worker"]:
        return [worker for worker in self._workers if worker.path is not None]

    def start(self, path: str | Path, segments: Sequence[str]) -> None:
        """Give a clip to an idle worker, or to a new one."""
        worker = next((worker for worker in self._workers if worker.path is None), None)
        if worker is None:
            worker = _Worker(*self._limits)
            self._workers.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ)
        worker.start(path, segments)

    def completed(self) -> Iterator[tuple[str | Path, Outcome]]:
        """Wait a moment for output; yield each clip that is done, with its outcome."""
        self._selector.select(WATCH_SECONDS)
        for worker in self.busy():
            path, outcome = worker.path, worker.poll()
            if path is None or outcome is None:
                continue
            if worker.closed:
                self._selector.unregister(worker.stdout)
                self._workers.remove(worker)
            yield path, outcome


class _Worker:
    """A process of `clip_check_worker`, its current clip, and the messages about it so far."""

    def __init__(self, timeout_seconds: float, memory_gb: float):
        self.timeout_seconds, self.memory_bytes = timeout_seconds, memory_gb * 1e9
        self._too_large = f"takes more than {memory_gb:g} GB of memory to decode"
        self.path: str | Path | None = None
        self.closed = False
        self._output, self._started, self._deadline = b"", False, 0.0
        # Receives FFmpeg's messages; the process shares its position.
        self._ffmpeg_log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [*CHILD, str(timeout_seconds), str(int(self.memory_bytes))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._ffmpeg_log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._memory = psutil.Process(self._process.pid)
        assert self._process.stdin and self._process.stdout  # both are pipes
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self.stdout.fileno(), False)

    def start(self, path: str | Path, segments: Sequence[str]) -> None:
        """Send the process a clip."""
        self.path, self._output = path, b""
        self._deadline = time.monotonic() + (self.timeout_seconds if self._started else START_SECONDS)
        with contextlib.suppress(BrokenPipeError):  # the process has died; `poll` reports it
            message = [os.path.abspath(path), [segment_of(segment) for segment in segments]]
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()

    def poll(self) -> Outcome | None:
        """Return the outcome of the current clip once it is known. A worker that must be replaced is then `closed`.

        Raises:
            InputError: If the process was ended from outside.
            RuntimeError: If the process did not start.
        """
        ended = self._read_output()
        fields = {message.kind: message.fields for message in self._messages()}
        facts = FileFacts(**fields[Kind.FILE]) if Kind.FILE in fields else None
        if Kind.STARTED in fields and not self._started:
            self._started = True
            self._deadline = time.monotonic() + self.timeout_seconds
        if Kind.DECODED in fields:
            outcome = Outcome(file=facts, decoded=Decoded(**fields[Kind.DECODED]), messages=self._ffmpeg_messages())
            if self._rss() > REPLACE_SHARE * self.memory_bytes:
                self.kill()  # the next clip gets the full limit
        elif Kind.OUT_OF_MEMORY in fields:
            self.kill()
            outcome = Outcome(file=facts, failure=self._too_large)
        elif failure := self._failure(ended):
            self.kill()
            if not self._started:
                raise RuntimeError(f"a worker of the clip check does not start: it {failure}; repair the installation")
            outcome = Outcome(file=facts, failure=failure)
        else:
            return None
        self.path = None
        return outcome

    def _read_output(self) -> bool:
        """Read what the process has written; return whether its output has ended."""
        while (chunk := self.stdout.read(65536)) is not None:  # None: nothing more for now
            if not chunk:
                return True
            self._output += chunk
        return False

    def _messages(self) -> list[Message]:
        *lines, _ = self._output.split(b"\n")  # the last one is incomplete
        return [Message.from_line(line) for line in lines]

    def _failure(self, ended: bool) -> str | None:
        if ended:
            status = self._process.wait()
            if -status in FROM_OUTSIDE:
                raise InputError(
                    f"{self.path}: the process that checked it was ended by signal {-status}, most likely because "
                    "memory ran out; free some, or lower integrity.memory_gb, and run the same command again"
                )
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            last = self._ffmpeg_messages()[-1:]
            return f"crashed the decoder ({': '.join([how, *last])})"
        if time.monotonic() > self._deadline:
            return f"was not decoded within {self.timeout_seconds:g} s"
        return self._too_large if self._rss() > self.memory_bytes else None

    def _rss(self) -> int:
        try:
            return self._memory.memory_info().rss
        except psutil.NoSuchProcess:
            return 0  # the next look finds its output ended

    def _ffmpeg_messages(self) -> list[str]:
        """Return FFmpeg's messages about the current clip and clear them."""
        self._ffmpeg_log.seek(0)
        text = self._ffmpeg_log.read().decode(errors="replace")
        self._ffmpeg_log.seek(0)
        self._ffmpeg_log.truncate()
        # Without addresses, equal clips get equal clip checks.
        lines = (re.sub(r" @ 0x[0-9a-f]+", "", line) for line in text.splitlines())
        return [line for line in lines if line.strip()]

    def kill(self) -> None:
        """Kill the process and close its files."""
        self.closed = True
        self._process.kill()
        self._process.wait()
        for file in (self.stdin, self.stdout, self._ffmpeg_log):
            with contextlib.suppress(BrokenPipeError):  # a path that was not read
                file.close()


def _obstacle(path: str | Path, data_root: str | Path | None) -> str | None:
    """Return why ``path`` cannot be read as a file, found without opening it: a FIFO would block."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        kind = "a link to a file that is not there" if os.path.islink(path) else "not there"
        return f"the file is {kind}; put the clip there, {OR_EXCLUDE}"
    except OSError as error:
        return f"the file cannot be accessed ({error.strerror}); correct its name or permissions, {OR_EXCLUDE}"
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        return f"is {kind}, not a file; put the clip there, {OR_EXCLUDE}"
    if data_root is not None and leaves(str(path), str(data_root)):
        return f"is a link that leads out of {data_root}/; copy the clip there, {OR_EXCLUDE}"
    if not os.access(path, os.R_OK):
        return f"is not readable; run `chmod u+r {shlex.quote(str(path))}`, {OR_EXCLUDE}"
    if status.st_size == 0:
        return f"the file is empty; copy it again from its source, {OR_EXCLUDE}"
    return None
