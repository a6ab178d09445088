"""The predicted memory of a training step, and which micro-batch and which settings fit."""

from dataclasses import replace

import pytest
import torch

from mobilevideogpt.training.memory import NCCL, Step, TextTokens, predicted_bytes
from mobilevideogpt.training.memory_remedies import what_would_fit
from mobilevideogpt.training.micro_batch import choose_micro_batch, with_less_memory
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.settings import TrainingSettings

TEXT = TextTokens(prompt=64, answer=64)
LEAST = {"batch_size": 1, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}


@pytest.fixture
def step(tmp_path):
    """Returns a function that makes a step of a base of the released geometry."""
    (tmp_path / "config.json").write_text("{}")

    def make(processes=1, deepspeed=None, text=TEXT, on_gpu=True, **settings):
        settings = TrainingSettings(**{"batch_size": 4} | settings)
        return Step(settings, Launch(processes, deepspeed), tmp_path, text, on_gpu)

    return make


def test_what_needs_more_memory_is_predicted_to(step, monkeypatch):
    def predicted(**changes):
        return predicted_bytes(step(**changes))

    assert predicted(gradient_checkpointing=True) < predicted() < predicted(batch_size=8)
    assert predicted() < predicted(precision="fp32")
    assert predicted(lora_r=129) - predicted(lora_r=128) > 24 * 4 * 2402 * (6 * 896 + 4864), "dropout's masks"
    here = predicted(precision="fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert predicted(precision="fp16") > here, "masks here, too"


@pytest.mark.parametrize(
    ("clips", "checkpointing", "lora_r", "text", "measured", "tolerance"),
    [
        (2, False, 64, (36, 24), 7.90e9, 0.05),
        (4, False, 64, (36, 24), 11.81e9, 0.05),
        (4, True, 64, (42, 126), 4.52e9, 0.05),
        (4, True, 16, (42, 126), 4.30e9, 0.08),
        (4, True, 64, (880, 126), 4.83e9, 0.05),
    ],
)
def test_the_prediction_agrees_with_a_gpu(clips, checkpointing, lora_r, text, measured, tolerance, step):
    """As the driver counted it: on an H200, and with recomputation on an H100 with kernels that kept a little more."""
    settings = {"batch_size": clips, "gradient_checkpointing": checkpointing, "lora_r": lora_r}
    assert predicted_bytes(step(text=TextTokens(*text), **settings)) == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize(("stage", "measured"), [("zero2", 7.96e9), ("zero3_offload", 9.93e9)])
def test_the_prediction_agrees_with_an_h100_under_deepspeed(stage, measured, step):
    """As the driver counted it with kernels that kept more activations."""
    predicted = predicted_bytes(step(deepspeed=stage, text=TextTokens(42, 126), batch_size=1))
    assert predicted == pytest.approx(measured, rel=0.05)


def test_training_all_weights_is_predicted_to_need_more_and_what_needs_less_is_named(step, monkeypatch):
    full = {"method": "full", "gradient_checkpointing": True}
    predicted = {stage: predicted_bytes(step(deepspeed=stage, **full)) for stage in (None, "zero2", "zero3_offload")}
    assert 2 * (predicted["zero3_offload"] - NCCL) < predicted[None] < predicted["zero2"] - NCCL
    assert predicted[None] > 16 * 494e6, "weights, gradients and two moments in float32"
    assert predicted_bytes(step(processes=4, deepspeed="zero3", **full)) < predicted["zero2"] / 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    assert what_would_fit(step(deepspeed="zero2", **full), 11e9).startswith("set finetune={deepspeed: none} (")
    remedy = what_would_fit(step(**full), 8e9)
    assert remedy.startswith("set finetune={deepspeed: zero3_offload} (") and "{method: lora} (" in remedy


def test_a_base_of_four_bits_is_predicted_to_need_less_and_is_named(step):
    least = step(on_gpu=False, lora_r=1, **LEAST)
    saved = predicted_bytes(least) - predicted_bytes(least.with_settings(quantization="nf4"))
    assert saved == pytest.approx((2 - 0.516) * 358e6, rel=0.01), "the decoder's matrices alone"
    remedy = what_would_fit(least, predicted_bytes(least) - 1)
    assert "quantization: nf4" in remedy and "pip install -e '.[nf4]'" in remedy


def test_the_largest_micro_batch_that_is_predicted_to_fit_is_chosen_at_the_same_effective_batch_size(step):
    automatic = step(on_gpu=False, batch_size="auto", effective_batch_size=8)

    def chosen(free_bytes, processes=1, **known):
        step = choose_micro_batch(replace(automatic, launch=Launch(processes, None)), free_bytes, **known)
        assert step.settings.result_affecting() == automatic.settings.result_affecting()
        assert step.settings.batch_size * step.settings.gradient_accumulation_steps == 8
        return step.micro_batch

    assert chosen(80e9) == 8 and chosen(0.5e9) == 1
    assert chosen(1.2 * predicted_bytes(step(on_gpu=False, batch_size=2))) == 2
    assert not choose_micro_batch(automatic, 80e9).settings.gradient_checkpointing
    assert choose_micro_batch(automatic, 0.5e9).settings.gradient_checkpointing, "where not even one clip fits"
    assert chosen(80e9, largest=4) == 4, "the result of a rehearsal"
    assert chosen(80e9, previous=2) == 2 and chosen(0.5e9, previous=4) == 1, "that of the interrupted run, if it fits"
    assert chosen(80e9, processes=2) == 4


def test_less_memory_means_smaller_micro_batches_then_checkpointing_then_nothing(step):
    tried, smaller = [], step()
    while smaller:
        settings = smaller.settings
        tried.append((settings.batch_size, settings.gradient_accumulation_steps, settings.gradient_checkpointing))
        smaller = with_less_memory(smaller)
    assert tried == [(4, 1, False), (2, 2, False), (1, 4, False), (1, 4, True)]


def test_changes_that_would_fit_are_named_with_their_costs(step):
    remedy = what_would_fit(step(), predicted_bytes(step()) - 1)
    assert remedy.startswith("set finetune={batch_size: 2, gradient_accumulation_steps: 2} (")
    assert "GB; the same result, somewhat slower)" in remedy and "end other programs" in remedy
    least = step(**LEAST)
    remedy = what_would_fit(step(), predicted_bytes(least))
    assert "batch_size: 1, gradient_accumulation_steps: 4, gradient_checkpointing: true" in remedy
    assert what_would_fit(least, 0) == "end other programs that use the device's memory"
