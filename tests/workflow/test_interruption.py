import os
import signal
import time
from contextlib import suppress
from shutil import copytree

import psutil
import pytest

SMALL_STEPS = {"epochs": 16, "save_steps": 2}
STEPS = 32  # many enough that a kill after the first comes before the last, on a fast machine too


def interrupt(project, *arguments):
    """Start the fine-tuning and send what Ctrl-C sends, to the group, when it has saved something."""
    process = project.start("--cores", "1", "finetune", *arguments)
    try:
        project.wait_for("results/tiny/checkpoint-4/trainer_state.json", process)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert "Traceback" not in err, err
    assert not (project / "results/tiny/train.json").exists()
    assert not [name for name in project.files() if "/.checkpoint" in name or "/.adapter" in name]
    return err


@pytest.fixture(scope="module")
def interrupted(whole_run, tmp_path_factory):
    """A project whose second fine-tuning, with more epochs, was stopped in the middle."""
    project = type(whole_run[0])(copytree(whole_run[0].folder, tmp_path_factory.mktemp("interrupted") / "project"))
    project.configure(finetune=SMALL_STEPS)
    interrupt(project)
    return project


@pytest.fixture
def project(interrupted, tmp_path):
    return type(interrupted)(copytree(interrupted.folder, tmp_path / "project"))


def test_after_ctrl_c_the_same_command_goes_on_and_ends(project):
    outcome = project.run("finetune")
    assert outcome.finished == {"finetune"}
    record = project.json("results/tiny/train.json")
    assert record["resumed_from"] >= 4
    assert record["steps"] == STEPS
    assert project.snakemake("--cores", "1", "finetune").is_settled


def test_after_ctrl_c_another_learning_rate_trains_from_the_start(project):
    project.configure(finetune={"learning_rate": 5e-4})
    for name in project.files():
        if name.startswith("results/"):  # all results are from a clock that ran ahead
            os.utime(project / name, (2e9, 2e9))
    outcome = project.run("finetune")
    assert outcome.finished == {"finetune"} and "results were of a date to come, such as" in outcome.text
    assert {"evaluate", "report"} <= project.snakemake("-n", "report").planned, "a stale evaluation would stay"
    record = project.json("results/tiny/train.json")
    assert record["resumed_from"] is None
    assert record["learning_rates"]["lora"]["peak"] == 5e-4
    assert list((project / "results/tiny/stale").glob("*/checkpoint-*"))
    assert "not resumed" in (project / "results/tiny/logs/finetune.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_that_reaches_snakemake_alone_stops_the_training_after_a_checkpoint(number, project):
    def last_step():
        return max(int(path.name.split("-")[1]) for path in (project / "results/tiny").glob("checkpoint-*"))

    process, before = project.start("--cores", "1", "finetune"), last_step()
    project.wait_for(f"results/tiny/checkpoint-{before + 2 - before % 2}/trainer_state.json", process)
    family = psutil.Process(process.pid).children(recursive=True)
    (trainer,) = [child for child in family if "finetune.py" in str(child.cmdline()[1:2])]
    process.send_signal(number)
    gone, _ = psutil.wait_procs([trainer], timeout=30)
    process.communicate(timeout=30)
    assert gone and not (project / "results/tiny/train.json").exists()
    assert before < last_step() < STEPS
    assert "saving a checkpoint" in (project / "results/tiny/logs/finetune.log").read_text()


def test_after_kill_9_of_everything_the_same_command_goes_on(project):
    process = project.start("--cores", "1", "finetune")
    before = max(int(path.name.split("-")[1]) for path in (project / "results/tiny").glob("checkpoint-*"))
    project.wait_for(f"results/tiny/checkpoint-{before + 2 - before % 2}/trainer_state.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    outcome = project.run("finetune")
    assert f"process {process.pid}) was killed and left a lock, which is removed" in outcome.text
    assert project.json("results/tiny/train.json")["resumed_from"] > before


TWO = ("--rerun-triggers", "mtime", "--config", "run=two", "finetune={processes: 2}")
KILLED = {  # rule: a part of the command of its last processes, how many they are, further arguments
    "features": (".features.py", 1, ()),
    "finetune": ("workflow_scripts/finetune.py", 4, TWO),  # the shell, the script, its launcher and two processes
    "evaluate": (".evaluate.py", 1, ()),
    "preflight": ("training.rehearsal_worker", 1, ()),  # last, since the others need its output
}


def test_after_kill_9_of_snakemake_its_jobs_end_and_the_same_command_goes_on(trained):
    before = trained.files()
    for number, (rule, (command, count, arguments)) in enumerate(KILLED.items()):
        (trained / "results/preflight.rehearsal.json").unlink(missing_ok=True)
        process = trained.start("--cores", "1", rule, "--forcerun", rule, *arguments)
        family = descendants(process, command, count)
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=90)
        text = "".join(process.communicate())
        assert not alive, (rule, alive)
        assert ("left a lock, which is removed" in text) == (number > 0), (rule, text)
    outcome = trained.run("evaluate")
    assert "left a lock, which is removed" in outcome.text
    made = trained.files() - before
    assert not [name for name in made if "/." in name and "/two/" not in name], "temporary files stay"
    assert trained.snakemake("--cores", "1", "evaluate").is_settled


def descendants(process, command, count):
    """The processes below Snakemake, once so many of them run a command."""
    deadline = time.monotonic() + 240
    while True:
        family = psutil.Process(process.pid).children(recursive=True)
        if sum(command in command_of(child) for child in family) >= count:
            return family
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, list(map(command_of, family))
        time.sleep(0.02)


def command_of(process):
    with suppress(psutil.Error):  # it has ended
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
def test_two_processes_train_together_under_deepspeed(trained):
    outcome = trained.run(
        "finetune", "--config", "run=zero2", "finetune={deepspeed: zero2, processes: 2}"
    )  # other settings come from config.yaml
    assert outcome.finished == {"preflight", "features", "finetune"}
    record = trained.json("results/zero2/train.json")
    assert record["world_size"] == 2 and record["deepspeed"] == "zero2"
    one, two = trained.json("results/tiny/train.json")["losses"], record["losses"]
    assert two["val_last"] < two["val_first"]
    assert two["val_first"] == pytest.approx(one["val_first"], rel=1e-3), "the same model on the same clips"
    assert two["val_last"] == pytest.approx(one["val_last"], rel=0.05)
    assert (trained / "results/zero2/adapter/adapter_model.safetensors").is_file()
