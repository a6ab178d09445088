"""LoRA on a base whose linear layers are rounded to 4 bits."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from mobilevideogpt.errors import InputError
from mobilevideogpt.model.adapter import load_finetuned
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.model_setup import load_for_training, parameter_counts
from mobilevideogpt.training.settings import TrainingSettings

NF4 = {"quantization": "nf4", "precision": "bf16"}


@pytest.mark.parametrize(
    "other", [{"method": "full"}, {"deepspeed": "zero3"}, {"deepspeed": "zero3_offload"}], ids=lambda o: str(o)
)
def test_what_does_not_go_with_nf4_is_named(other):
    (name, value), *_ = other.items()
    with pytest.raises(InputError, match=rf"finetune\.quantization: nf4 does not go with finetune\.{name}: {value}"):
        TrainingSettings(quantization="nf4", **other)


def test_without_bitsandbytes_nf4_is_refused_with_the_remedy(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"finetune\.quantization: nf4 needs bitsandbytes.*pip install -e '\.\[nf4\]'"):
        load_for_training(project.settings(**NF4), project.paths)


def test_the_decoders_linear_layers_alone_are_quantized(project):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = load_for_training(project.settings(**NF4), project.paths)
    quantized = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    adapted = {name.removesuffix(".base_layer") for name in quantized}
    assert len(quantized) == 2 * 7 and all(".model.layers." in name for name in adapted)
    plain = parameter_counts(load_for_training(project.settings(precision="bf16"), project.paths))
    assert parameter_counts(model) == plain


def test_lora_on_a_quantized_base_learns_goes_on_bit_for_bit_and_is_loaded_by_the_plain_base(project, tmp_path):
    pytest.importorskip("bitsandbytes")
    record = project.finetune(tmp_path, gradient_checkpointing=True, keep="last", **NF4)
    assert record["losses"]["val_last"] < record["losses"]["val_first"]
    trained = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter").rename(tmp_path / "lost")
    for step in (5, 6):
        (tmp_path / f"checkpoint-{step}" / "digest.json").unlink(missing_ok=True)
    assert project.finetune(tmp_path, gradient_checkpointing=True, **NF4)["resumed_from"] == 4
    again = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in trained.items())
    base = MobileVideoGPTForConditionalGeneration.from_pretrained(project.base, dtype=torch.float32)
    load_finetuned(base, tmp_path / "adapter")
