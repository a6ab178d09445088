"""Adapters and bases of others: refused by name and in time, before memory is taken."""

import json

import pytest
from safetensors.torch import load_file, save_file

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.adapter import add_lora, load_finetuned
from mobilevideogpt.model.checkpoint_files import read_image_encoder, read_video_token
from mobilevideogpt.model.foreign import LIMITS


def change(path, **values):
    """Change entries of a JSON file; with ``whole``, its content."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(values["whole"] if "whole" in values else content | values))


@pytest.fixture
def adapter(tiny, tmp_path):
    """The base, and the folder of an adapter that fits it."""
    add_lora(tiny, r=4, lora_alpha=8, lora_dropout=0.0).save_pretrained(tmp_path / "adapter")
    return MobileVideoGPTForConditionalGeneration(tiny.config), tmp_path / "adapter"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"whole": {}}, 'has no "peft_type"'),
        ({"whole": []}, "is a list, not an object"),
        ({"peft_type": "XLORA", "adapters": {"a": "org/name"}}, "\"peft_type\" is 'XLORA'"),
        ({"r": 10**9}, '"r" is 1000000000, not a rank'),
        ({"r": -1}, '"r" is -1'),
        ({"r": True}, '"r" is true or false'),
        ({"r": 8}, "says r = 8, but .*lora_A.* has another rank"),
        ({"rank_pattern": {".*": 10**9}}, '"rank_pattern" is'),
        ({"use_dora": True}, '"use_dora" is True'),
        ({"layer_replication": [[0, 10**6]]}, '"layer_replication" is'),
        ({"trainable_token_indices": [1]}, '"trainable_token_indices" is'),
        ({"lora_alpha": 1e999}, '"lora_alpha" or "lora_dropout" is not plausible'),
        ({"lora_dropout": 2.0}, '"lora_alpha" or "lora_dropout" is not plausible'),
        ({"target_modules": "(a+)+$"}, "\"target_modules\" is '\\(a\\+\\)\\+\\$'"),
        ({"target_modules": ["(a+)+$"]}, '"target_modules" contains more than names of layers'),
        ({"modules_to_save": ["lm_head"]}, "replaces lm_head"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused_by_name(adapter, values, message):
    base, folder = adapter
    change(folder / "adapter_config.json", **values)
    with pytest.raises(InputError, match=message):
        load_finetuned(base, folder)


def test_how_the_tensors_of_an_adapter_were_first_filled_does_not_count(adapter):
    base, folder = adapter
    change(folder / "adapter_config.json", init_lora_weights="pissa", peft_version="99", new_option=None)
    assert load_finetuned(base, folder).peft_config["default"].r == 4


@pytest.fixture
def folder(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"whole": []}, "is a list, not an object"),
        ({"hidden_size": -1}, '"hidden_size" is -1, not a whole number from 1'),
        ({"hidden_size": 1.5}, '"hidden_size" is 1.5'),
        ({"num_hidden_layers": 10**6}, '"num_hidden_layers" is 1000000'),
        ({"vocab_size": 10**15}, '"vocab_size" is 1000000000000000'),
        ({"_attn_implementation": "org/name"}, "\"_attn_implementation\" is 'org/name', which would load code"),
        ({"attn_implementation": {"": "org/name"}}, '"attn_implementation" is {'),
        ({"quantization_config": {"quant_method": "gptq"}}, '"quantization_config" is set'),
        ({"num_attention_heads": 3}, "tensors do not fit|cannot be built"),
        ({"hidden_act": "no such function"}, "cannot be built"),
        ({"hidden_act": 3}, "cannot be built"),
        ({"rope_parameters": [1]}, "cannot be built"),
    ],
)
def test_a_base_of_impossible_values_is_refused_by_name(folder, values, message):
    change(folder / "config.json", **values)
    with pytest.raises(InputError, match=message) as caught:
        MobileVideoGPTForConditionalGeneration.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_a_model_of_the_largest_depth_is_refused_before_its_memory_is_taken(folder):
    change(folder / "config.json", num_hidden_layers=LIMITS["num_hidden_layers"], layer_types=None)
    with pytest.raises(InputError, match=r"missing: model\.layers\.10\."):
        MobileVideoGPTForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, 'has no "weight_map"'),
        ([], "is a list"),
        ({"weight_map": ["a"]}, '"weight_map" is a list'),
        ({"weight_map": {"a": 1}}, '"a" is a whole number'),
        ({"weight_map": {"a": "../model.safetensors"}}, r"model\.safetensors', which is not a file of this"),
    ],
)
def test_an_index_of_the_wrong_shape_is_refused(folder, index, message):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        MobileVideoGPTForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("content", ['{"added_tokens": {}}', '{"added_tokens_decoder": {"1": []}}', "[]", "1"])
def test_a_tokenizer_of_the_wrong_shape_is_refused(content, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer_config\.json: .*; fetch it again"):
        read_video_token(tmp_path)


@pytest.mark.parametrize("content", ['{"vision_config": []}', "[]", "1"])
def test_a_configuration_of_clip_of_the_wrong_shape_is_refused(content, tiny, tmp_path):
    prefix = "model.image_vision_tower.vision_tower."
    tensors = {k.removeprefix(prefix): t for k, t in tiny.state_dict().items() if k.startswith(prefix)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        read_image_encoder(tmp_path, {})
