"""Which ZeRO stage the memory of the devices asks for."""

from dataclasses import replace

import pytest

from mobilevideogpt.training import sharing
from mobilevideogpt.training.memory import Step, TextTokens, predicted_bytes
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.sharing import choose_stage


@pytest.fixture
def step(tmp_path):
    """Returns a function that makes a step of a base of the released geometry on two GPUs."""
    (tmp_path / "config.json").write_text("{}")

    def make(stage=None, **settings):
        launch = Launch(2, stage)
        return Step(TrainingSettings(**settings), launch, tmp_path, TextTokens(64, 64), on_gpu=True)

    return make


def test_lora_is_trained_without_zero_and_all_weights_where_they_fit(step):
    assert choose_stage(step(), 24e9).launch.deepspeed is None
    assert choose_stage(step(), 1e9).launch.deepspeed != "zero3", "which would need more"
    full = step(method="full")
    assert choose_stage(full, 80e9).launch.deepspeed is None
    one_clip = {"batch_size": 2, "effective_batch_size": 2, "method": "full"}
    needed = [predicted_bytes(step(stage, **one_clip)) / sharing.USABLE for stage in sharing.STAGES]
    assert needed[0] > needed[1]
    assert choose_stage(full, int(needed[0]) + 1).launch.deepspeed is None
    assert choose_stage(full, int(needed[0]) - 1).launch.deepspeed == "zero2"


def test_the_choice_leaves_the_batch_to_the_free_memory(step):
    chosen = choose_stage(step(method="full"), 16e9)
    assert chosen.launch.deepspeed and chosen.settings == step(method="full").settings


def test_a_stage_of_the_settings_one_process_and_a_cpu_are_left_alone(step, monkeypatch):
    monkeypatch.setattr(sharing, "predicted_bytes", lambda _: 1e12)
    chosen = step("zero3", method="full", deepspeed="zero3")
    assert choose_stage(chosen, 8e9) == chosen
    alone = replace(step(method="full"), launch=Launch(1, None))
    assert choose_stage(alone, 8e9) == alone and choose_stage(step(method="full"), None) == step(method="full")
    assert choose_stage(step(method="full", precision="fp16"), 8e9).launch.deepspeed is None, "fp16 excludes DeepSpeed"
