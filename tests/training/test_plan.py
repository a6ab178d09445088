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


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_each_gpu_gets_a_process_and_deepspeed_only_by_choice(gpus, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert plan_launch(TrainingSettings(batch_size=4)) == Launch(max(1, gpus), None)
    assert plan_launch(TrainingSettings(batch_size=4, deepspeed="zero2")) == Launch(max(1, gpus), "zero2")


def test_fp16_is_not_trained_under_deepspeed():
    with pytest.raises(InputError, match="trained weights in fp16"):
        plan_launch(TrainingSettings(precision="fp16", deepspeed="zero2", processes=1))


def test_only_lora_on_whole_and_unquantized_weights_uses_cuda_graphs():
    plain, alone = TrainingSettings(), Launch(1, None)
    assert supported_optimisations(plain, alone, "cuda") == Optimisations(fused=True, cuda_graphs=True)
    assert supported_optimisations(plain, alone, "cpu") == Optimisations(fused=False, cuda_graphs=False)
    for launch in (Launch(2, None), Launch(2, "zero2")):
        assert supported_optimisations(plain, launch, "cuda") == Optimisations(fused=True, cuda_graphs=True)
    assert supported_optimisations(plain, Launch(2, "zero3"), "cuda") == Optimisations(fused=False, cuda_graphs=False)
    for changes in ({"method": "full"}, {"quantization": "nf4"}, {"gradient_checkpointing": True}):
        assert not supported_optimisations(TrainingSettings(**changes), alone, "cuda").cuda_graphs
