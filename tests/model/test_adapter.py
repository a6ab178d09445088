import copy
import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.adapter import add_lora, load_adapter, load_finetuned, merge_adapter, write_plain_lora_config


@pytest.fixture
def trained(tiny, batch):
    """A model after two steps, so that every trained tensor differs from where it began; and the plain base."""
    base = copy.deepcopy(tiny)
    model = add_lora(tiny, r=4, lora_alpha=8, lora_dropout=0.0)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model(**batch, labels=labels_of(batch)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval(), base


def labels_of(batch):
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -2:] = batch["input_ids"][:, -2:]
    return labels


@torch.no_grad()
def last_logits(model, batch):
    return model(**batch, logits_to_keep=2).logits


def test_the_language_model_and_both_projectors_are_trained_and_nothing_else(tiny):
    model = add_lora(tiny.bfloat16(), r=4, lora_alpha=8, lora_dropout=0.05)
    trainable = {name.removeprefix("base_model.model."): p for name, p in model.named_parameters() if p.requires_grad}
    lora = {name.partition(".lora_")[0] for name in trainable if ".lora_" in name}
    assert lora == {
        f"model.layers.{layer}.{name}"
        for layer in range(2)
        for name in [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    }
    others = {name for name in trainable if ".lora_" not in name}
    assert {name.split(".")[1] for name in others} == {"mm_projector", "image_mm_projector"}
    assert len(others) == 12
    assert {p.dtype for p in trainable.values()} == {torch.float32}


def test_every_trained_tensor_moves(trained):
    model, base = trained
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
            before = base.get_parameter(key) if "lora_" not in key else torch.zeros(()) if "lora_B" in key else None
            assert before is None or not torch.equal(parameter, before.expand_as(parameter)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loaded_adapter_gives_exactly_the_logits_it_was_saved_with(tiny, batch, tmp_path, dtype):
    base = tiny.to(dtype)
    again = copy.deepcopy(base)
    model = add_lora(base, r=4, lora_alpha=8, lora_dropout=0.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    model.save_pretrained(tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.float32}
    loaded = load_adapter(again, tmp_path)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(last_logits(loaded, batch), last_logits(model, batch))


def test_training_goes_on_from_a_loaded_adapter(trained, batch, tmp_path):
    model, base = trained
    model.save_pretrained(tmp_path)
    loaded = load_adapter(base, tmp_path, is_trainable=True)
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    loaded(**batch, labels=labels_of(batch)).loss.backward()


def test_a_merged_model_is_plain_and_answers_as_before(trained, batch, tmp_path):
    model, base = trained
    expected, before = last_logits(model, batch), last_logits(base, batch)
    merged = merge_adapter(model)
    assert type(merged) is MobileVideoGPTForConditionalGeneration
    assert merged.state_dict().keys() == base.state_dict().keys()
    torch.testing.assert_close(last_logits(merged, batch), expected, atol=1e-4, rtol=1e-4)
    assert (expected - before).abs().max() > 1e-2
    merged.save_pretrained(tmp_path, layout="official")
    again = MobileVideoGPTForConditionalGeneration.from_pretrained(tmp_path)
    assert all(torch.equal(t, merged.state_dict()[k]) for k, t in again.state_dict().items())


def test_a_base_in_half_precision_is_merged_in_float32(tiny):
    merged = merge_adapter(add_lora(tiny.bfloat16(), r=4, lora_alpha=8, lora_dropout=0.0))
    assert {p.dtype for p in merged.parameters()} == {torch.float32}


def test_an_adapter_of_another_base_is_refused(trained, config, tmp_path):
    trained[0].save_pretrained(tmp_path)
    config = copy.deepcopy(config)
    config.intermediate_size = 56
    with pytest.raises(InputError, match=r"do not fit.*mlp"):
        load_adapter(MobileVideoGPTForConditionalGeneration(config), tmp_path)


def test_a_folder_without_an_adapter_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        load_adapter(tiny, tmp_path)


def test_a_damaged_or_missing_file_of_an_adapter_is_named(trained, tmp_path):
    model, base = trained
    model.save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: damaged"):
        load_finetuned(base, tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"contains no adapter_model\.safetensors"):
        load_finetuned(base, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r":')
    with pytest.raises(InputError, match=r"adapter_config\.json: not valid JSON"):
        load_finetuned(base, tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        load_finetuned(base, tmp_path)


@pytest.fixture
def original(trained, tmp_path):
    """The trained model's folder as the original code would have written it: bare names, projectors apart."""
    trained[0].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    apart = {key: tensors.pop(key) for key in list(tensors) if "mm_projector" in key}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    torch.save(apart, tmp_path / "non_lora_trainables.bin")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    names = [f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")]
    config |= {"target_modules": names, "modules_to_save": None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


def test_what_the_original_code_trained_is_loaded_with_its_projectors(trained, original, batch):
    model, base = trained
    names = sorted(torch.load(original / "non_lora_trainables.bin"))
    assert len(names) == 12 and names[0] == "base_model.model.model.image_mm_projector.mlp.mlp.0.bias"
    again = copy.deepcopy(base)
    assert torch.equal(last_logits(load_adapter(base, original), batch), last_logits(model, batch))
    weights = original / "adapter_model.safetensors"
    torch.save(load_file(weights), original / "adapter_model.bin")  # as older PEFT wrote it
    weights.unlink()
    assert torch.equal(last_logits(load_adapter(again, original), batch), last_logits(model, batch))


def test_an_adapter_without_projectors_keeps_the_bases_and_says_so(trained, original, batch, caplog):
    model, base = trained
    (original / "non_lora_trainables.bin").unlink()
    projectors = {k: t.clone() for k, t in base.state_dict().items() if "mm_projector" in k}
    merged = merge_adapter(load_adapter(base, original))
    assert "without projectors" in caplog.text
    assert all(torch.equal(merged.state_dict()[k], t) for k, t in projectors.items())
    assert not torch.equal(last_logits(merged, batch), last_logits(model, batch))


def test_a_projector_file_of_another_shape_is_refused(trained, original):
    tensors = torch.load(original / "non_lora_trainables.bin")
    key = next(k for k in tensors if k.endswith("mlp.mlp.0.weight"))
    torch.save(tensors | {key: torch.zeros(3, 3)}, original / "non_lora_trainables.bin")
    with pytest.raises(InputError, match=r"do not fit.*mm_projector\.mlp\.mlp\.0\.weight"):
        load_adapter(trained[1], original)
    torch.save({"base_model.model.lm_head.weight": torch.zeros(1)}, original / "non_lora_trainables.bin")
    with pytest.raises(InputError, match=r"lm_head\.weight, which is not part of a projector"):
        load_adapter(trained[1], original)


def test_the_configuration_of_an_adapter_has_no_entry_that_older_releases_of_peft_refuse(tiny, tmp_path):
    add_lora(tiny, r=4, lora_alpha=8, lora_dropout=0.0).save_pretrained(tmp_path)
    before = LoraConfig.from_pretrained(tmp_path).to_dict()
    write_plain_lora_config(tmp_path)
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    known = {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save"}
    assert values.keys() <= known | {"base_model_name_or_path", "inference_mode"}
    after = LoraConfig.from_pretrained(tmp_path).to_dict()
    assert after | {"peft_version": None} == before | {"peft_version": None}
