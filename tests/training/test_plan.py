"""Decisions that the settings leave to the machine."""

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.training.plan import Launch, Optimisations, plan_launch, supported_optimisations
from mobilevideogpt.training.settings import TrainingSettings


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


def test_fp16_is_not_trained_under_deepspeed():
    with pytest.raises(InputError, match="trained weights in fp16"):
        plan_launch(TrainingSettings(precision="fp16", deepspeed="zero2", processes=1))


def test_only_a_single_process_that_trains_lora_on_unquantized_weights_uses_cuda_graphs():
    plain, alone = TrainingSettings(), Launch(1, None)
    assert supported_optimisations(plain, alone, "cuda") == Optimisations(fused=True, cuda_graphs=True)
    assert supported_optimisations(plain, alone, "cpu") == Optimisations(fused=False, cuda_graphs=False)
    assert supported_optimisations(plain, Launch(2, "zero2"), "cuda") == Optimisations(fused=True, cuda_graphs=False)
    assert supported_optimisations(plain, Launch(2, "zero3"), "cuda") == Optimisations(fused=False, cuda_graphs=False)
    for changes in ({"method": "full"}, {"quantization": "nf4"}, {"gradient_checkpointing": True}):
        assert not supported_optimisations(TrainingSettings(**changes), alone, "cuda").cuda_graphs
