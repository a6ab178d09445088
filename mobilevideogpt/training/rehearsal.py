"""Rehearse a fine-tuning: a few steps on random features, in other processes. The child is `rehearsal_worker`."""

import json
import logging
import shutil
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from mobilevideogpt.files import json_digest, read_json, write_json
from mobilevideogpt.machine import device_name, versions
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.launch import ForkedLauncher
from mobilevideogpt.training.memory import Step
from mobilevideogpt.training.rehearsal_process import WORKER, RehearsalProcess

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 900


class Outcome(StrEnum):
    """How a rehearsal ended."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


@dataclass(frozen=True)
class Measured:
    """What a rehearsal needed. Bytes of memory, of files on the disk, and the numbers in the features of a clip."""

    peak_bytes: int  # of the device, with what the driver and the libraries need
    reserved_bytes: int  # torch's share of it
    checkpoint_bytes: int
    adapter_bytes: int
    values_per_clip: int
    peak_bytes_of_each: list[int] = field(default_factory=list)  # of all processes, by rank


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal: ``measured`` if it passed, else ``message``."""

    outcome: Outcome
    measured: Measured | None = None
    message: str = ""
    cached: bool = False

    @classmethod
    def from_json(cls, values: dict) -> "Rehearsal":
        """Read what a process of the rehearsal wrote."""
        measured = values["measured"]
        return cls(Outcome(values["outcome"]), measured and Measured(**measured), values["message"])


@dataclass(frozen=True)
class RehearsalCache:
    """A file with the result of the last rehearsal that passed.

    Attributes:
        path: The file.
        inputs: Digest of the base's files and of the code.
    """

    path: Path
    inputs: str

    def key(self, step: Step, encode: bool, deepspeed_configs: str | Path, shortest: int = 0) -> str:
        """Digest everything that affects a rehearsal; ``shortest`` is the number of tokens of that sample."""
        stage = step.launch.deepspeed
        return json_digest(
            {
                "inputs": self.inputs,
                "settings": asdict(step.settings),
                "launch": asdict(step.launch),
                "text": step.text,
                "shortest": shortest,
                "encode": encode,
                "deepspeed": read_json(Path(deepspeed_configs, f"{stage}.json")) if stage else None,
                "device": device_name(),
                "versions": versions(),
            }
        )

    def read(self, key: str) -> Rehearsal | None:
        """Return the result, if the file has it."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            measured = Measured(**content["measured"]) if content["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):  # no file, or not one of this version
            return None
        return measured and Rehearsal(Outcome.OK, measured, cached=True)

    def write(self, key: str, measured: Measured) -> None:
        """Replace the file's content."""
        write_json({"key": key, "measured": asdict(measured)}, self.path)


def rehearse(
    step: Step,
    model: ModelPaths,
    longest: dict,
    folder: Path,
    *,
    shortest: dict | None = None,
    encode: bool = False,
    deepspeed_configs: str | Path = "config",
    ready: RehearsalProcess | None = None,
) -> Rehearsal:
    """Fine-tune for a few steps, with validation and checkpoints, in the processes and ZeRO stage of the real run.

    Args:
        step: With a number for ``batch_size``.
        model: Paths of base and encoders.
        longest: The sample that fills the batch.
        folder: An existing folder. Files are written to a temporary folder below it.
        shortest: The sample of the shortest text, if another; batches of several lengths may need more memory.
        encode: Whether the training computes the features itself.
        deepspeed_configs: Folder of zero2.json and so on.
        ready: A process that was started before. If it rehearsed already, or several are needed, others are started.

    Returns:
        The outcome, with the measurements of the process that needed most memory.
    """
    for remains in folder.glob(".rehearsal-*"):  # of a killed one
        shutil.rmtree(remains)
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=folder) as place:
        settings = replace(step.settings, processes=step.launch.processes, deepspeed=step.launch.deepspeed or "none")
        request = {
            "settings": asdict(settings),
            "model": {name: path and str(path) for name, path in model.named.items()},
            "longest": longest,
            "shortest": shortest,
            "folder": place,
            "encode": encode,
            "deepspeed_configs": str(deepspeed_configs),
        }
        try:
            done = _run(step.launch.processes, request, ready)
        except subprocess.TimeoutExpired:
            return Rehearsal(Outcome.TIMED_OUT, message=f"the rehearsed steps took longer than {TIMEOUT_SECONDS} s")
        logger.info("rehearsal: %s%s", done.stdout, done.stderr)
        reports = [
            Rehearsal.from_json(read_json(path)) for path in sorted(Path(place).glob("rehearsed-*.json"), key=_rank)
        ]
    return _summary(done, reports, step.launch.processes)


def _run(processes: int, request: dict, ready: RehearsalProcess | None) -> subprocess.CompletedProcess:
    if processes == 1:
        with ready if ready and ready.is_waiting else RehearsalProcess() as process:
            return process.run(request, TIMEOUT_SECONDS)
    with tempfile.TemporaryFile("w+") as output:
        launcher = ForkedLauncher(processes, ["-m", WORKER, json.dumps(request)], output)
        try:
            status = launcher.wait(TIMEOUT_SECONDS)
        finally:
            launcher.stop(signal.SIGKILL)  # its processes end with it
        if status is None:
            raise subprocess.TimeoutExpired(WORKER, TIMEOUT_SECONDS)
        output.seek(0)
        return subprocess.CompletedProcess(WORKER, status, stdout="", stderr=output.read())


def _summary(done: subprocess.CompletedProcess, reports: list[Rehearsal], processes: int) -> Rehearsal:
    """Combine the reports of all processes; a killed process leaves none."""
    failed = sorted((report for report in reports if report.measured is None), key=_is_other_failure)
    if failed:
        return replace(failed[0], message=f"the rehearsal failed: {failed[0].message}")
    if done.returncode < 0 or done.returncode == 128 + signal.SIGKILL:
        number = abs(done.returncode) % 128
        message = f"the rehearsal was killed by signal {number}, most likely for lack of memory"
        return Rehearsal(Outcome.OUT_OF_MEMORY, message=message)
    if done.returncode or len(reports) < processes:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return Rehearsal(Outcome.FAILED, message=f"the rehearsal failed: {lines[-1]}")
    measured = [report.measured for report in reports if report.measured]
    peaks = [each.peak_bytes for each in measured]
    most = max(measured, key=lambda each: each.peak_bytes)
    return Rehearsal(Outcome.OK, replace(most, peak_bytes_of_each=peaks))


def _rank(report: Path) -> int:
    return int(report.stem.rpartition("-")[2])


def _is_other_failure(report: Rehearsal) -> bool:
    """Sort lack of memory first: it makes the other processes fail, too."""
    return report.outcome is not Outcome.OUT_OF_MEMORY
