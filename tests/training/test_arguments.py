import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.settings import TrainingSettings


def test_an_unknown_setting_is_named():
    with pytest.raises(InputError, match="unknown setting learningrate"):
        TrainingSettings.from_dict({"learningrate": 1})


def test_a_number_that_yaml_read_as_text_is_taken_as_a_number():
    assert TrainingSettings.from_dict({"learning_rate": "2e-4"}).learning_rate == 2e-4
    with pytest.raises(InputError, match=r"finetune\.learning_rate: 'fast' is not a number"):
        TrainingSettings.from_dict({"learning_rate": "fast"})


def test_what_only_costs_time_or_memory_is_not_part_of_what_is_learned():
    plain, other = TrainingSettings(), TrainingSettings(save_steps=7, num_workers=0, gradient_checkpointing=True)
    assert plain.result_affecting() == other.result_affecting()
    assert plain.result_affecting() != TrainingSettings(seed=1).result_affecting()


def test_what_is_learned_depends_on_the_effective_batch_not_on_how_it_is_taken():
    auto = TrainingSettings(batch_size="auto", effective_batch_size=8)
    assert auto.result_affecting() == TrainingSettings(batch_size=4, gradient_accumulation_steps=2).result_affecting()
    assert auto.result_affecting() != TrainingSettings(batch_size=4).result_affecting()
    with pytest.raises(InputError, match=r"finetune\.effective_batch_size: 3 clips cannot be shared"):
        TrainingSettings(batch_size="auto", effective_batch_size=3, processes=2)
    with pytest.raises(InputError, match="'large' is not a number"):
        TrainingSettings.from_dict({"batch_size": "large"})


def test_accumulation_that_an_automatic_batch_would_overrule_is_refused():
    with pytest.raises(InputError, match=r"set finetune\.effective_batch_size"):
        TrainingSettings(gradient_accumulation_steps=8)


def test_a_batch_that_the_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="choose a multiple"):
        TrainingSettings(batch_size=3, processes=2)
