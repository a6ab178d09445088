"""The settings of a fine-tuning, and the rules between them."""

import json

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.settings import TrainingSettings


def test_an_unknown_setting_is_named():
    with pytest.raises(InputError, match="unknown setting learningrate"):
        TrainingSettings.from_dict({"learningrate": 1})


def test_a_text_in_the_place_of_a_number_is_refused_and_a_whole_number_is_a_number():
    assert TrainingSettings(epochs=3).result_affecting() == TrainingSettings(epochs=3.0).result_affecting()
    assert json.dumps(TrainingSettings(epochs=3).result_affecting()["epochs"]) == "3.0", "for its digest"
    with pytest.raises(InputError, match=r"finetune\.learning_rate: 'fast' is not a number"):
        TrainingSettings.from_dict({"learning_rate": "fast"})


def test_a_choice_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(InputError, match=r"finetune\.method: 'Lora' is not one of lora, full; choose one"):
        TrainingSettings.from_dict({"method": "Lora"})


def test_settings_that_affect_only_time_or_memory_do_not_affect_the_result():
    plain, other = TrainingSettings(), TrainingSettings(save_steps=7, num_workers=0, gradient_checkpointing=True)
    assert plain.result_affecting() == other.result_affecting()
    assert plain.result_affecting() != TrainingSettings(seed=1).result_affecting()


def test_the_effective_batch_size_affects_the_result_and_its_division_does_not():
    auto = TrainingSettings(batch_size="auto", effective_batch_size=8)
    assert auto.result_affecting() == TrainingSettings(batch_size=4, gradient_accumulation_steps=2).result_affecting()
    assert auto.result_affecting() != TrainingSettings(batch_size=4).result_affecting()
    with pytest.raises(InputError, match=r"finetune\.effective_batch_size: 2 processes cannot share 3 clips"):
        TrainingSettings(batch_size="auto", effective_batch_size=3, processes=2)
    with pytest.raises(InputError, match="'large' is not a number"):
        TrainingSettings.from_dict({"batch_size": "large"})


def test_accumulation_without_effect_under_an_automatic_batch_is_refused():
    with pytest.raises(InputError, match=r"set finetune\.effective_batch_size"):
        TrainingSettings(gradient_accumulation_steps=8)


def test_a_batch_that_the_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="choose a multiple"):
        TrainingSettings(batch_size=3, processes=2)


def test_the_micro_batch_is_the_share_of_a_process_once_the_batch_is_known():
    assert TrainingSettings(batch_size=8).micro_batch(processes=2) == 4
    with pytest.raises(ValueError, match="auto"):
        TrainingSettings().micro_batch(processes=1)
    smaller = TrainingSettings(effective_batch_size=8).with_micro_batch(2, processes=2)
    assert (smaller.batch_size, smaller.gradient_accumulation_steps, smaller.effective_batch_size) == (4, 2, 8)
