"""A finished training whose files beside the adapter are gone or damaged: made again without training."""

import shutil

import pytest
from transformers import Trainer

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.checkpoints import content_digest, lost_beside

SETTINGS = {"report_to": ["tensorboard"], "save_total_limit": 1}


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("restoring") / "run"
    project.finetune(folder, **SETTINGS)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lose(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def newest(run):
    return max(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))


def scalars(run):
    """The steps of the losses that TensorBoard would show."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return sorted({event.step for event in events.Scalars("train/loss")})


@pytest.mark.parametrize("damage", [lose, flip])
@pytest.mark.parametrize("name", ["log.jsonl", "trainer_state.json", "config.yaml", "adapter-best", "tensorboard"])
def test_what_is_lost_beside_the_adapter_comes_back_from_the_last_checkpoint(
    name, damage, whole, run, project, monkeypatch
):
    if name == "adapter-best" and not (whole / name).exists():
        pytest.skip("the best step is the last one")
    target = run / name
    if damage is flip and target.is_dir():
        target = max((path for path in target.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damage(target)
    monkeypatch.setattr(Trainer, "training_step", None)  # no step is trained
    project.finetune(run, **SETTINGS)
    assert lost_beside(run) == [] and content_digest(run / "adapter") == content_digest(whole / "adapter")
    if name == "tensorboard":
        assert scalars(run) == scalars(whole) != []
    elif name == "log.jsonl":  # the last line has the duration
        assert (run / name).read_text().splitlines()[:-1] == (whole / name).read_text().splitlines()[:-1]
    elif name == "adapter-best":
        assert content_digest(run / name) == content_digest(whole / name)


def test_a_damaged_adapter_is_made_again_from_the_last_checkpoint(whole, run, project, monkeypatch):
    flip(run / "adapter/adapter_model.safetensors")
    monkeypatch.setattr(Trainer, "training_step", None)
    project.finetune(run, **SETTINGS)
    assert content_digest(run / "adapter") == content_digest(whole / "adapter")


def test_a_damaged_checkpoint_is_not_resumed(whole, run, project, caplog):
    flip(newest(run) / "optimizer.pt")
    shutil.rmtree(run / "adapter")
    project.finetune(run, **SETTINGS)
    assert "is damaged; not resumed" in caplog.text
    assert content_digest(run / "adapter") == content_digest(whole / "adapter")


def test_without_a_checkpoint_the_log_comes_from_the_trainers_state_and_what_stays_lost_is_named(
    whole, run, project, monkeypatch, caplog
):
    shutil.rmtree(newest(run))
    lose(run / "log.jsonl")
    lose(run / "tensorboard")
    monkeypatch.setattr(Trainer, "training_step", None)
    project.finetune(run, **SETTINGS)
    assert (run / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    assert "tensorboard/" in caplog.text and "adapter/ and run the same command again to train again" in caplog.text
    assert lost_beside(run) == []
    lose(run / "log.jsonl")
    lose(run / "trainer_state.json")
    with pytest.raises(InputError, match=r"log\.jsonl: lost, .*adapter/ and run the same command again"):
        project.finetune(run, **SETTINGS)
