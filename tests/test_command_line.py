"""The commands that messages tell a person to type."""

import sys
from pathlib import Path

import pytest

from mobilevideogpt.command_line import CommandLine

BESIDE = {"PATH": str(Path(sys.executable).parent)}


def command(argv: list[str], target: str = "report", *values: str, **environ: str) -> str:
    return CommandLine.of_this_process(argv, BESIDE | environ).command(target, *values)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["finetune"], ""),
        (["finetune", "--configfile", "a.yaml", "b.yaml", "--cores", "2"], " --configfile a.yaml b.yaml"),
        (["--config", "run=try2", "seed=3", "--", "finetune"], " --config run=try2 seed=3"),
        (["finetune", "-C", "run=try2"], " --config run=try2"),
        (["--config=run=try2", "finetune"], " --config run=try2"),
        (["finetune", "--config", "finetune={epochs: 2}"], " --config 'finetune={epochs: 2}'"),
        (["finetune", "--config", "run=a", "--config", "run=b"], " --config run=b"),
        (["infer", "--config", "video=a b.mp4", "prompt=What?", "run=a"], " --config run=a"),
    ],
)
def test_settings_are_repeated_as_they_were_typed_but_for_those_of_one_command(argv, options):
    assert command(argv) == f"`snakemake report{options}`"


def test_a_value_joins_those_that_were_typed():
    typed = ["finetune", "--config", "run=try2"]
    assert command(typed, "infer", "video=clip.mp4") == "`snakemake infer --config video=clip.mp4 run=try2`"


def test_after_make_the_next_command_is_make_where_it_has_that_target():
    assert command(["finetune"], MAKELEVEL="1") == "`make report`"
    assert command(["finetune"], "infer", "video=a.mp4", MAKELEVEL="1").startswith("`snakemake infer")
    assert command(["finetune", "--config", "run=b"], MAKELEVEL="1") == "`snakemake report --config run=b`"


def test_a_snakemake_that_the_shell_does_not_find_is_named_by_its_path(monkeypatch):
    there = Path(sys.executable).parent / "snakemake"
    monkeypatch.chdir(there.parents[2])
    named = CommandLine.of_this_process([], {"PATH": "/nowhere"}).program
    assert named == str(there.relative_to(there.parents[2]))
    monkeypatch.chdir("/")
    assert CommandLine.of_this_process([], {"PATH": "/nowhere"}).program in (str(there), str(there)[1:])
