"""What `profiles/slurm` submits, by commands that stand for Slurm's; `make test-slurm` runs a real one."""

import json
import re
import shlex
from functools import partial

import pytest

from tests.workflow.conftest import ENVIRONMENT, SLURM_PLUGIN

pytestmark = pytest.mark.skipif(not SLURM_PLUGIN.is_dir(), reason="needs Slurm's plugin: `make test` installs it")
SBATCH = """#!/usr/bin/env python3
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with open(here / "submitted", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
if "rule_infer" in sys.argv[sys.argv.index("--comment") + 1]:
    pathlib.Path("results/tiny/logs/infer.txt").write_text("squats - good form\\n")
print(len((here / "submitted").read_text().splitlines()))
"""
# Every job that was submitted has ended well.
SQUEUE = '#!/bin/sh\nseq "$(grep -c . "$(dirname "$0")/submitted")" | sed "s/$/|COMPLETED/"\n'
CONFIGURED = "#!/bin/sh\necho 'MinJobAge = 300 sec'\n"
NO_ACCOUNTING = "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of Slurm at the front of the path; returns a function that reads what was submitted, by rule."""
    commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": CONFIGURED, "sacct": NO_ACCOUNTING}
    commands["sinfo"] = "#!/bin/sh\necho 'gpu*'\n"
    for name, text in commands.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setitem(ENVIRONMENT, "SNAKEMAKE_LOGGER_STAGES_USUAL", "false")

    def submitted() -> dict[str, list[list[str]]]:
        found = {}
        for line in (tmp_path / "bin/submitted").read_text().splitlines():
            words = json.loads(line)
            name = re.match(r"(?:rule|group)_(\w+?)(?:_wildcards.*)?$", words[words.index("--comment") + 1])[1]
            found.setdefault(name, []).append(words)
        return found

    return submitted


def value(words: list[str], option: str) -> str | None:
    """What follows an option, after a space or an equals sign."""
    after = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return after[0] if after else words[words.index(option) + 1] if option in words else None


def test_gpu_jobs_are_submitted_with_few_cpus_and_short_steps_stay_on_the_login_node(trained, slurm):
    profile = ("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1")
    forced = ("check_device", "preflight", "features", "finetune", "evaluate")
    calls = ("evaluate", "infer", "--forcerun", *forced, "--config", "video=dataset/squats/0001.mp4")
    calls += ("finetune={nodes: 2}",)
    snakemake = partial(trained.snakemake, before=SLURM_PLUGIN)
    outcome = snakemake(*calls, *profile, "--set-resources", "evaluate:gpu=0", "evaluate:gres='gpu:1'")
    assert outcome.status == 0, outcome.text
    assert outcome.out == "squats - good form\n"
    assert "that of each job's machine" in outcome.err and "SLURM" not in outcome.err
    jobs = slurm()
    assert jobs.keys() == {*forced, "infer"}
    for name, [words] in jobs.items():
        gpu = {"--gres": "gpu:1"} if name in ("evaluate", "finetune") else {"--gpus": "1"}
        assert {option: value(words, option) for option in ("--gres", "--gpus") if value(words, option)} == gpu, words
        nodes = ("2", "2") if name == "finetune" else (None, None)
        assert (value(words, "--nodes"), value(words, "--ntasks")) == nodes
        assert value(words, "--cpus-per-task") == ("1" if name == "check_device" else "8")
        assert value(words, "--mem") == ("2000" if name == "check_device" else "16000")
        assert "--requeue" in words and value(words, "-p") == "gpu"
        inside = shlex.split(value(words, "--wrap"))
        assert value(inside, "--max-threads") == "8" and value(inside, "--cores") == "8"
    minutes = {name: value(words, "-t") for name, [words] in jobs.items()}
    assert minutes == {
        **{"check_device": "10", "preflight": "30", "features": "480", "finetune": "1440"},
        **{"evaluate": "240", "infer": "240"},
    }
    checked = snakemake("--until", "probe_clip", "--forcerun", "probe_clip", *profile, "check_clips")
    assert checked.status == 0, checked.text
    [words] = slurm()["probe_probe_clip"]  # eight clips, one job
    assert value(words, "--gpus") is None and int(value(words, "--cpus-per-task")) <= 8
    verified = snakemake("verify", *profile)
    assert "found by results/preflight.json" in verified.out and "machine" not in verified.out
