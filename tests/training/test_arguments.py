import pytest
import torch
from torch import nn

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.batches import SharedBatches
from mobilevideogpt.training.guards import exploding_since, overflowing
from mobilevideogpt.training.optimizer import parameter_groups
from mobilevideogpt.training.plan import plan_launch
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


def test_processes_that_were_started_from_outside_are_counted_over_all_nodes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert plan_launch(TrainingSettings(batch_size=16)).processes == 8
    with pytest.raises(InputError, match="8 processes were started"):
        plan_launch(TrainingSettings(batch_size=4))


@pytest.mark.parametrize(("gpus", "stage"), [(0, None), (1, None), (2, "zero2")])
def test_deepspeed_comes_by_itself_where_it_shares_something(gpus, stage, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert plan_launch(TrainingSettings(batch_size=4)).deepspeed == stage


def test_accumulation_that_an_automatic_batch_would_overrule_is_refused():
    with pytest.raises(InputError, match=r"set finetune\.effective_batch_size"):
        TrainingSettings(gradient_accumulation_steps=8)


def test_a_batch_that_the_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="choose a multiple"):
        TrainingSettings(batch_size=3, processes=2)


def test_fp16_is_not_trained_under_deepspeed():
    with pytest.raises(InputError, match="trained weights in fp16"):
        plan_launch(TrainingSettings(precision="fp16", deepspeed="zero2", processes=1))


@pytest.mark.parametrize("n", [7, 8, 9, 12])
def test_the_processes_together_see_the_batches_of_one(n):
    def epoch(process, processes):
        batches = SharedBatches(n, 4, process, processes, seed=1)
        batches.epoch = 3
        return list(batches)

    whole, shared = epoch(0, 1), [epoch(process, 2) for process in range(2)]
    assert len(shared[0]) == len(shared[1]) == len(whole)
    for batch, *parts in zip(whole, *shared, strict=True):
        assert sorted(batch) == sorted(number for part in parts for number in part if number >= 0)
    assert sorted(number for batch in whole for number in batch) == list(range(n))


def test_every_epoch_has_its_own_order():
    batches = SharedBatches(32, 4, 0, 1, seed=1)
    first = list(batches)
    batches.epoch = 1
    assert first != list(batches)


def test_items_of_similar_length_share_a_step_however_it_is_cut():
    lengths = torch.randint(100, (1003,), generator=torch.Generator().manual_seed(0)).tolist()

    def steps(batch_size, lengths=lengths):
        order = [n for batch in SharedBatches(1003, batch_size, 0, 1, 1, lengths, step_size=4) for n in batch]
        assert sorted(order) == list(range(1003))
        return [order[start : start + 4] for start in range(0, 1003, 4)]

    def padded(steps):
        return sum(max(lengths[n] for n in step) * len(step) - sum(lengths[n] for n in step) for step in steps)

    assert steps(4) == steps(2) == steps(1)
    assert padded(steps(4)) < padded(steps(4, lengths=None)) / 3


def test_parameter_groups_are_never_empty_and_biases_do_not_decay():
    model = nn.ModuleDict({"lora_A": nn.Linear(3, 3, bias=False), "mm_projector": nn.Sequential(nn.Linear(3, 3))})
    rates = {"lora": 1e-3, "projectors": 1e-4}
    groups = parameter_groups(model, rates, weight_decay=0.0)
    assert [(group["kind"], group["lr"], len(group["params"])) for group in groups] == [
        ("lora", 1e-3, 1),
        ("projectors", 1e-4, 2),
    ]
    groups = parameter_groups(model, rates, weight_decay=0.1)
    assert [(group["kind"], group["weight_decay"], len(group["params"])) for group in groups] == [
        ("lora", 0.1, 1),
        ("projectors", 0.1, 1),
        ("projectors", 0.0, 1),
    ]


def test_parameters_that_training_would_round_away_or_does_not_know_are_refused():
    half = nn.ModuleDict({"lora_A": nn.Linear(3, 3).to(torch.bfloat16)})
    with pytest.raises(ValueError, match="rounded away"):
        parameter_groups(half, {"lora": 1, "projectors": 1}, 0)
    with pytest.raises(ValueError, match="neither LoRA's nor a projector's"):
        parameter_groups(nn.ModuleDict({"head": nn.Linear(3, 3)}), {"lora": 1, "projectors": 1}, 0)


def log_of(*losses, key="loss"):
    return [{"step": n, key: loss} for n, loss in enumerate(losses, 1)]


def test_a_loss_that_stays_high_explodes_and_a_single_hard_batch_does_not():
    falling = [4 * 0.95**n for n in range(100)]
    assert exploding_since(log_of(*falling), 3) is None
    assert exploding_since(log_of(*falling, 9, 9), 3) is None
    assert exploding_since(log_of(*falling, 9, 1, 9), 3) is None
    assert exploding_since(log_of(*falling, 9, 8, 7), 3) == 101
    assert exploding_since(log_of(*falling, 9, 8, 7), None) is None
    assert exploding_since(log_of(3, 3, 3, 3, 3, 10, 11, 11), 3) == 6


def test_a_model_that_knows_few_clips_by_heart_may_stumble():
    assert exploding_since(log_of(*[4] * 10, *[0.01] * 50, 0.5, 1, 2), 3) is None, "still below where it began"


def test_gradients_that_are_no_numbers_are_told_and_fp16_may_search_its_scale():
    norms = log_of(1, float("nan"), key="grad_norm")
    assert overflowing(norms, 1) and not overflowing(norms, 2) and not overflowing(log_of(1, 2, key="grad_norm"), 1)
    assert overflowing(log_of(1, *[float("inf")] * 20, key="grad_norm"), 20)
