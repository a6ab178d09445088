"""Each command of the documents is one that Snakemake plans in a trained project, and that a fresh clone answers.

Without a connection, too.
"""

import re
import shlex
import shutil

import pytest

from tests.workflow.conftest import ROOT, SLURM_PLUGIN

DOCUMENTS = ("README.md", "QVED_FINETUNING.md", "CONTRIBUTING.md", "RELIABILITY.md")
CODE = re.compile(r"^```(?:sh|console)?\n(.*?)^```|`([^`\n]+)`", re.M | re.S)
NO_COMMANDS = {"snakemake", "snakemake --unlock"}  # the name; and what a dry run refuses


def commands(text: str) -> set[str]:
    """The commands of fenced blocks and of inline code, without remarks and pipes; not those with a placeholder."""
    lines = (line for found in CODE.findall(text) for line in "\n".join(found).splitlines())
    plain = (re.sub(r"\s+(#|\\?\||2>).*", "", line).strip() for line in lines)
    return {line for line in plain if line.startswith("snakemake ") and not re.search(r"<|\.\.\.|\bN\b", line)}


def commands_of(*names: str) -> list[str]:
    found = (commands((ROOT / name).read_text(encoding="utf-8")) for name in names)
    return sorted(set().union(*found) - NO_COMMANDS)


ALL, FIRST = commands_of(*DOCUMENTS), commands_of("README.md")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """The proxy that the hub's client is told to use refuses all connections."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def reader(whole_run, tmp_path_factory):
    """A trained project with the files that the documents' commands name."""
    project = type(whole_run[0])(shutil.copytree(whole_run[0].folder, tmp_path_factory.mktemp("reader") / "project"))
    clip = project / "dataset/squats/0001.mp4"
    for name in ("clip.mp4", "dataset/session.mp4"):
        shutil.copy2(clip, project / name)
    shutil.copy2(project / "config.yaml", project / "mine.yaml")
    for run in ("a", "b", "c"):
        shutil.copytree(project / "results/tiny", project / f"results/{run}")
    return project


def test_there_are_commands_in_the_documents():
    assert len(ALL) > 20, ALL


@pytest.mark.parametrize("command", ALL)
def test_a_command_of_the_documents_is_planned(command, reader):
    _, *arguments = shlex.split(command)
    outcome = reader.snakemake("-n", *arguments, before=SLURM_PLUGIN if "slurm" in command else None)
    assert outcome.status == 0, outcome.text


@pytest.mark.parametrize("command", FIRST)
def test_a_command_of_the_readme_says_in_a_fresh_clone_what_it_needs(command, clone):
    _, *arguments = shlex.split(command)
    outcome = clone.snakemake("-n", *arguments, before=SLURM_PLUGIN if "slurm" in command else None)
    assert "Traceback" not in outcome.text
    assert outcome.status == 0 or re.search("ERROR|WorkflowError", outcome.text), outcome.text
