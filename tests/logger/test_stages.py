"""What a person sees of Snakemake, from real runs of a small workflow whose rules are named as ours."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from snakemake_logger_plugin_stages import LogHandler, LogHandlerSettings
from snakemake_logger_plugin_stages.screen import ERASE, Screen
from snakemake_logger_plugin_stages.stages import Stages, duration

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
import sys
from snakemake.logging import logger
logger.info(None, extra={"up_to_date": lambda: "Nothing to do: all is there."})
rule all:
    input: "report.txt"
rule probe_clip:
    output: "clips/{clip}.json"
    log: "logs/{clip}.log"
    message: "Checking {wildcards.clip}"
    shell: "touch {output} {log}"
rule check_clips:
    input: expand("clips/{clip}.json", clip=list("abcd"))
    output: "report.txt"
    log: "logs/check_clips.log"
    message: "Gathering the checks"
    shell: "{sys.executable} check.py {log} && touch {output}"
onstart:
    logger.info("  data    here")
onsuccess:
    logger.info("Made: report.txt")
onerror:
    logger.info("Run the same command again.")
"""
CHECK = """
import sys
from mobilevideogpt.errors import InputError
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result
log_to(sys.argv[1])
"""


class Workflow:
    """The small workflow in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "Snakefile").write_text(SNAKEFILE)
        self.script('log_result("4 ok")')

    def script(self, end: str) -> None:
        (self.folder / "check.py").write_text(CHECK + end + "\n")

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run Snakemake and return what it printed on standard error; a dry run prints on standard output."""
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "stages", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stderr + done.stdout


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path)


def without_seconds(text: str) -> list[str]:
    return [re.sub(r"\s+\d+ s$", "", line) for line in text.splitlines()]


def test_a_run_is_a_line_a_stage_then_nothing_is_to_do_and_a_dry_run_prints_the_usual_plan(workflow):
    assert without_seconds(workflow.run()) == [
        "  data    here",
        "[1/2] probe clip        4 of 4",
        "[2/2] check clips       4 ok",
        "Made: report.txt",
    ]
    log = next(workflow.folder.glob(".snakemake/log/*.log")).read_text()
    assert log.count("Finished jobid") == 6 and "Job stats:" in log and "Gathering the checks" in log
    assert workflow.run() == "Nothing to do: all is there.\n"
    assert "This was a dry-run" in (text := workflow.run("-n", "--forceall")) and "Job stats:" in text


def test_an_error_is_printed_once_with_its_log_and_how_to_resume(workflow):
    workflow.script('raise InputError("a.mp4: is empty; export it again")')
    lines = workflow.run(status=1).splitlines()
    assert lines[2:] == [
        "ERROR: a.mp4: is empty; export it again",
        "Failed: check clips. Its log: logs/check_clips.log",
        "Run the same command again.",
    ]


def test_a_script_that_was_killed_is_said_to_be_killed(workflow):
    workflow.script("import os; os.kill(os.getpid(), 9)")
    text = workflow.run(status=1)
    assert "ERROR: check clips ended without a message: it was killed (exit status 137)" in text
    assert "Failed: check clips. Its log: logs/check_clips.log" in text and "RuleException" not in text


def test_an_error_of_the_workflow_itself_is_printed(workflow):
    assert "No rule to produce nothing_such" in workflow.run("--", "nothing_such", status=1)


def test_the_usual_messages_are_an_option_away(workflow):
    text = workflow.run(SNAKEMAKE_LOGGER_STAGES_USUAL="true")
    assert "Finished jobid" in text and "Job stats:" in text and "[1/2]" not in text


class TestHandler(TestLogHandlerBase):
    """The interface's own tests of a logger, and which of Snakemake's options bring its usual messages."""

    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return LogHandlerSettings()

    @pytest.mark.parametrize("option", ["dryrun", "verbose", "debug_dag", "printshellcmds", "show_failed_logs"])
    def test_options_for_more_detail_bring_the_usual_messages(self, option):
        def handler(**asked):
            settings = MockOutputSettings()
            settings.__dict__ |= {"printshellcmds": False, "show_failed_logs": False, **asked}
            return LogHandler(settings, LogHandlerSettings())

        assert handler(**{option: True}).usual and not handler().usual


# The line that changes


class Terminal(io.StringIO):  # a stream that says it is one
    def isatty(self) -> bool:
        return True


def record(event=None, message=None, pathname="Snakefile", level=logging.INFO, **values):
    made = logging.LogRecord("snakemake.logging", level, pathname, 1, message, (), None)
    made.__dict__ |= {"event": event, **values}
    return made


def job(number, rule="probe_clip", message="Checking a.mp4"):
    return record(LogEvent.JOB_INFO, jobid=number, rule_name=rule, rule_msg=message, log=[])


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def stages(terminal):
    found = Stages(Screen(terminal, {}))
    found.take(record(LogEvent.RUN_INFO, stats={"all": 1, "probe_clip": 30, "preflight": 1, "total": 32}))
    return found


def test_on_a_terminal_one_line_counts_the_clips_and_gives_way_to_what_stays(stages, terminal):
    for number in range(17):
        stages.take(job(number))
        stages.take(record(LogEvent.JOB_FINISHED, job_id=number))
    stages.take(job(17))
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("probe clip 17 of 30\r")
    stages.take(record(message="a sentence of the workflow"))
    assert f"{ERASE}a sentence of the workflow\n{ERASE}" in terminal.getvalue()
    stages.close()
    assert terminal.getvalue().endswith(ERASE)


def test_of_shards_the_clips_are_counted_too(terminal):
    stages = Stages(Screen(terminal, {}))
    stages.take(record(LogEvent.RUN_INFO, stats={"probe_shard": 2}))
    for number, clips in enumerate([["a.mp4"] * 700, ["b.mp4"] * 500]):
        shard = {"rule_name": "probe_shard", "rule_msg": "Checking", "log": [], "input": clips}
        stages.take(record(LogEvent.JOB_INFO, jobid=number, **shard))
        stages.take(record(LogEvent.JOB_FINISHED, job_id=number))
    assert "probe shard 700 clips in 1 of 2 shards\r" in terminal.getvalue()
    assert "[1/1] probe shard       1,200 clips in 2 of 2 shards" in terminal.getvalue()


def test_a_single_job_is_shown_by_its_message_until_it_ends(stages, terminal):
    stages.take(job(1, "preflight", "Rehearsing a few steps"))
    assert terminal.getvalue().endswith("Rehearsing a few steps ...\r")
    stages.take(record(LogEvent.JOB_FINISHED, job_id=1))
    assert terminal.getvalue().endswith("0 s\n")


@pytest.mark.parametrize(("quiet", "lines"), [((), 2), (("progress",), 2), (("rules",), 1), (("all",), 0)])
def test_quiet_leaves_out_stages_or_all_but_errors(terminal, quiet, lines):
    stages = Stages(Screen(terminal, {}), quiet)
    stages.take(record(LogEvent.RUN_INFO, stats={"preflight": 1}))
    stages.take(job(1, "preflight", "Rehearsing"))
    assert bool(terminal.getvalue()) is not bool(quiet)
    stages.take(record(LogEvent.JOB_FINISHED, job_id=1))
    stages.take(record(message="a sentence of the workflow"))
    assert terminal.getvalue().count("\n") == lines
    stages.take(record(LogEvent.ERROR, "MissingRuleException: finetun"))
    assert "ERROR: MissingRuleException" in terminal.getvalue()


def test_jobs_that_a_checkpoint_adds_count(stages, terminal):
    for number in range(31):
        stages.take(job(number))
    for number in range(31):
        stages.take(record(LogEvent.JOB_FINISHED, job_id=number))
    assert "[1/2] probe clip        31 of 31" in terminal.getvalue()


def test_after_ctrl_c_the_jobs_that_it_ended_are_no_failures(stages, terminal):
    stages.take(job(1, "preflight", "Rehearsing"))
    ours = Path(sys.modules["snakemake"].__file__ or "").with_name("scheduler.py")
    stages.take(record(message="Terminating processes on user request, this might take some time.", pathname=str(ours)))
    stages.take(
        record(LogEvent.ERROR, "RuleException: ... returned non-zero exit status 130", exception="RuleException")
    )
    stages.take(record(LogEvent.JOB_ERROR, jobid=1, rule_name="preflight", log=[]))
    stages.take(record(LogEvent.ERROR, "CreateRuleException: what the end of the jobs led to"))
    assert "\n" not in terminal.getvalue()


def test_the_error_of_a_job_on_another_machine_comes_from_its_log(stages, terminal, tmp_path):
    log = tmp_path / "preflight.log"
    log.write_text(
        "2026-01-02 03:04:05,678 INFO mobilevideogpt: started\n"
        "2026-01-02 03:04:06,678 ERROR root: it would not run here:\n  device: no GPU\n"
        "2026-01-02 03:04:07,678 INFO mobilevideogpt: ended\n"
    )
    stages.take(job(1, "preflight", "Rehearsing"))
    how = "SLURM-job '7' failed, SLURM status is: 'FAILED'."
    stages.take(record(LogEvent.JOB_ERROR, jobid=1, rule_name="preflight", log=[str(log)], rule_msg=how))
    printed = terminal.getvalue()
    assert "ERROR: it would not run here:\n  device: no GPU\n" in printed and f"ERROR: preflight: {how}\n" in printed
    assert "started" not in printed and "ended" not in printed


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (102, "1 min 42 s"), (3600 * 2 + 300, "2 h 5 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("content", "told"), [(b"\xff\xfe\x00run", "is not UTF-8 text"), (b"a: &x [*x]\n", "no alias (*name) inside")]
)
def test_a_file_of_the_command_line_that_snakemake_cannot_read_is_a_message(content, told, tmp_path):
    (tmp_path / "Snakefile").write_text("rule all:\n")
    (tmp_path / "other.yaml").write_bytes(content)
    command = [sys.executable, "-m", "snakemake", "-n", "--logger", "stages", "--configfile", "other.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "ERROR: other.yaml: " in done.stderr and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
