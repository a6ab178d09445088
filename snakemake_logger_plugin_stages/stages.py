"""The stages of a call: which rules run how many jobs, how far they are, what came out, and what failed."""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

import snakemake
from snakemake_interface_logger_plugins.common import LogEvent

from mobilevideogpt.stage_result import errors_in, last_result, tells_an_error
from snakemake_logger_plugin_stages.screen import Screen

SNAKEMAKE = str(Path(snakemake.__file__).parent)
EXECUTORS = "snakemake_executor_plugin"  # wherever they are installed
ONLY_TARGETS = {"all", "fetch", "normalise"}  # rules without a script
# Rules whose job prints what the person asked for, or what is wrong. A single such job has no line of its own.
PRINT_THEMSELVES = {"verify", "infer", "compare", "manifest", "pin_splits", "clean_features", "push"}
PROBES = {"probe_clip", "probe_shard"}
SECONDS_A_LINE = 30  # between lines about many jobs, where there is no terminal
NAME_WIDTH, RESULT_WIDTH = 17, 58
# Messages of Snakemake that a person has no use for.
CHATTER = re.compile(
    "Assuming unrestricted shared|Building DAG|Using shell|Conda env|Singularity cont|Group jobs|Select jobs|Execute "
    "|DAG of jobs will be updated|Updating checkpoint|Shutting down|Complete log|Elapsed time|Removing output files"
    "|Trying to restart|Terminating processes|Will exit after|Touching output|Processed \\d+ potential|Provided "
    "|Exiting because a job execution failed|\\d+ jobs have (?:missing|outdated) provenance|Using workflow specific"
    "|SLURM run ID|Job \\S+ has been submitted with SLURM|No SLURM account|Unable to guess SLURM|Guessed SLURM"
    "|No account was given|Cleaning up SLURM|Falling back to 'sacct'"
)
SCRIPT_FAILED = re.compile(r"returned non-zero exit status (\d+)|died with <Signals\.(\w+)")
KILLED = 137, 143  # exit status of a shell whose command ended by SIGKILL or SIGTERM


@dataclass
class Job:
    """A job that runs."""

    rule: str
    message: str
    logs: list[str]
    inputs: int


@dataclass
class Stage:
    """A rule of this call."""

    jobs: int
    done: int = 0
    clips: int = 0  # of the jobs that are done, where a job has several
    started: float | None = None
    told: float = 0.0
    logs: list[str] = field(default_factory=list)


class Stages:
    """Turns the records of one call of Snakemake into lines on a screen.

    Args:
        screen: Where to print.
        quiet: What not to print, as after ``--quiet``: ``progress`` (the line that changes), ``rules`` (stages, too),
            ``all`` (all but errors).
        clock: Seconds.
    """

    def __init__(self, screen: Screen, quiet: Collection[str] = (), clock: Callable[[], float] = time.monotonic):
        self.screen, self.quiet, self.clock = screen, quiet, clock
        self.stages: dict[str, Stage] = {}
        self.running: dict[int, Job] = {}
        self.finished = 0  # stages
        self.stopped = False  # by the person
        self.failure = ""  # why the last script failed, as Snakemake saw it
        self.up_to_date: Callable[[], str] | None = None

    def take(self, record: LogRecord) -> None:
        """Print what a record says, or nothing."""
        takers: dict[Any, Callable[[LogRecord], None]] = {
            None: self._message,
            LogEvent.RUN_INFO: self._plan,
            LogEvent.JOB_INFO: self._job_starts,
            LogEvent.JOB_FINISHED: self._job_ends,
            LogEvent.JOB_ERROR: self._job_fails,
            LogEvent.ERROR: self._error,
            LogEvent.GROUP_ERROR: self._message,
        }
        if taker := takers.get(getattr(record, "event", None)):
            taker(record)

    def close(self) -> None:
        """Erase the line that changes."""
        self.screen.status("")

    # Stages

    def _plan(self, record: LogRecord) -> None:
        planned = {rule: n for rule, n in _get(record, "stats").items() if rule not in {"total", *ONLY_TARGETS}}
        self.stages = {rule: Stage(int(n)) for rule, n in planned.items()}

    def _job_starts(self, record: LogRecord) -> None:
        rule = _get(record, "rule_name")
        if rule in ONLY_TARGETS:
            return
        job = Job(rule, _get(record, "rule_msg") or rule, list(_get(record, "log")), len(_get(record, "input") or ()))
        self.running[_get(record, "jobid")] = job
        stage = self.stages.setdefault(rule, Stage(0))
        if stage.started is None:
            stage.started = stage.told = self.clock()
        running = sum(other.rule == rule for other in self.running.values())
        stage.jobs = max(stage.jobs, stage.done + running)  # a checkpoint may have added jobs
        self._show_status()

    def _job_ends(self, record: LogRecord) -> None:
        job = self.running.pop(_get(record, "job_id"), None)
        if job is None:
            return
        stage = self.stages[job.rule]
        stage.done += 1
        stage.clips += job.inputs
        stage.logs = job.logs
        if stage.done == stage.jobs:
            self.finished += 1
            self._show_result(job.rule, stage)
        elif not self.screen.is_live and self.clock() - stage.told > SECONDS_A_LINE:
            stage.told = self.clock()
            self._show(f"{'':{self._indent}}{_name(job.rule):{NAME_WIDTH}} {_progress(job.rule, stage)}")
        self._show_status()

    def _show_result(self, rule: str, stage: Stage) -> None:
        if rule in PRINT_THEMSELVES and len(self.stages) == 1:
            return
        result = _progress(rule, stage) if rule in PROBES or stage.jobs > 1 else last_result(stage.logs)
        seconds = duration(self.clock() - (stage.started or 0))
        number = f"[{self.finished:>{len(str(len(self.stages)))}}/{len(self.stages)}] "
        self._show(f"{number}{_name(rule):{NAME_WIDTH}} {result:{RESULT_WIDTH}} {seconds:>10}".rstrip())

    @property
    def _indent(self) -> int:
        return 2 * len(str(len(self.stages))) + 4

    def _show(self, line: str) -> None:
        if not {"rules", "all"} & set(self.quiet):
            self.screen.line(line)

    def _show_status(self) -> None:
        if {"progress", "rules", "all"} & set(self.quiet):
            return
        jobs = [job for job in self.running.values() if job.rule not in PRINT_THEMSELVES]
        if not jobs:
            self.screen.status("")
            return
        job = jobs[-1]
        stage = self.stages[job.rule]
        text = f"{_name(job.rule)} {_progress(job.rule, stage)}" if stage.jobs > 1 else f"{job.message} ..."
        self.screen.status(f"{'':{self._indent}}{text}")

    # Failures

    def _job_fails(self, record: LogRecord) -> None:
        self.running.pop(_get(record, "jobid"), None)
        rule, logs = _get(record, "rule_name"), list(_get(record, "log") or ())
        failure, self.failure = self.failure, ""
        if self.stopped:
            return
        if how := _get(record, "rule_msg"):  # of a job on another machine, whose terminal nobody sees
            for error in errors_in(logs):
                self.screen.line(f"ERROR: {error}")
            self.screen.line(f"ERROR: {_name(rule)}: {how.strip()}")
        elif not tells_an_error(logs):
            if rule in PRINT_THEMSELVES and not failure:
                return
            self.screen.line(f"ERROR: {_name(rule)} ended without a message{failure}")
        if logs:
            self.screen.line(f"Failed: {_name(rule)}. Its log: {', '.join(logs)}")

    def _error(self, record: LogRecord) -> None:
        text = str(record.msg).strip()
        found = SCRIPT_FAILED.search(text)
        if found and _get(record, "exception") in ("RuleException", "CalledProcessError"):
            status, signal = found.groups()
            how = signal or f"exit status {status}"
            self.failure = (
                f": it was killed ({how}), perhaps for lack of memory" if signal or int(status) in KILLED else ""
            )
            return
        if self.stopped or text.endswith("At least one job did not complete successfully."):
            return
        self.screen.line(text if text.startswith("Error") else f"ERROR: {text}")

    # Messages

    def _message(self, record: LogRecord) -> None:
        self.up_to_date = _get(record, "up_to_date") or self.up_to_date
        text = str(record.msg)
        if record.pathname.startswith(SNAKEMAKE) or EXECUTORS in record.pathname:
            self._message_of_snakemake(record, text)
        elif text not in ("", "None") and not (record.levelno < WARNING and "all" in self.quiet):
            self.screen.line(text)
        self._show_status()

    def _message_of_snakemake(self, record: LogRecord, text: str) -> None:
        if text.startswith(("Terminating processes on user request", "Will exit after finishing")):
            self.stopped = True
        if text in ("", "None") or CHATTER.match(text):
            return
        if text.startswith("Nothing to be done"):
            text = self.up_to_date() if self.up_to_date else text
        if record.levelno >= WARNING:
            self.screen.line(f"{record.levelname}: {text}")
        elif "all" not in self.quiet:
            self.screen.line(text)


def _progress(rule: str, stage: Stage) -> str:
    shards = f"{stage.done} of {stage.jobs}"
    return f"{stage.clips:,} clips in {shards} shards" if rule == "probe_shard" else shards


def _get(record: LogRecord, name: str) -> Any:
    return getattr(record, name, None)


def _name(rule: str) -> str:
    return rule.replace("_", " ")


def duration(seconds: float) -> str:
    """``102.4`` as ``1 min 42 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
