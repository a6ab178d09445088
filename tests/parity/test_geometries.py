"""Checkpoints of other sizes than the goldens': whatever the tensors and config.json say is what is built."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CLIPVisionModel, Qwen2Config, Qwen2ForCausalLM

from mobilevideogpt import MobileVideoGPTForConditionalGeneration, MobileVideoGPTProcessor
from tests.parity import weights

load = MobileVideoGPTForConditionalGeneration.from_pretrained
GEOMETRIES = {
    "narrow and deep": weights.REDUCED
    | dict(vocab=700, hidden=96, layers=3, heads=6, kv_heads=1, inter=160)
    | dict(vm_dim=80, vm_depth=3, vm_state=5, vm_conv=3, vm_expand=3, clip_hidden=128, clip_layers=2, clip_inter=96),
    "wide and flat": weights.REDUCED
    | dict(vocab=415, hidden=192, layers=1, heads=3, kv_heads=3, inter=64)
    | dict(vm_dim=576, vm_depth=1, vm_state=24, vm_conv=4, clip_hidden=192, clip_layers=4, clip_inter=80),
}
ROPE_THETA = 5e5


def write(folder, geometry, **options):
    """A checkpoint folder in the released layout, seeded; `weights` writes the goldens' config.json otherwise."""
    geometry = geometry | {"clip_heads": geometry["clip_hidden"] // 64}
    model = weights.write_checkpoint(folder, geometry, **options)
    with open(f"{model}/config.json") as file:
        config = json.load(file)
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    parts = ("vocab", "hidden", "layers", "heads", "kv_heads")
    config |= {n: geometry[p] for n, p in zip(names, parts, strict=True)}
    config |= {"intermediate_size": geometry["inter"], "rope_theta": ROPE_THETA}
    with open(f"{model}/config.json", "w") as file:
        json.dump(config, file)
    return model


@pytest.fixture(scope="module", params=GEOMETRIES)
def geometry(request) -> dict:
    return GEOMETRIES[request.param]


@pytest.fixture(scope="module")
def folder(geometry, tmp_path_factory):
    return write(tmp_path_factory.mktemp("geometry"), geometry)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def inputs(folder, model):
    """Two prompts of unequal length, padded on the left, and the features of two clips."""
    processor = MobileVideoGPTProcessor.from_pretrained(folder)
    rows = [{"input_ids": processor.encode_text(text)["input_ids"]} for text in ("What?", "What is to be seen here?")]
    pixels = [torch.stack([weights.inputs(f"{kind}_{x}") for x in "ab"]) for kind in ("frames", "context")]
    with torch.no_grad():
        features = dict(zip(("video_features", "context_features"), model.encode_video(*pixels), strict=True))
    return {**processor.pad(rows, "left")} | features, pixels


def test_every_tensor_finds_its_place(folder, geometry, model):
    state = model.state_dict()
    for key, tensor in weights.state_dict(geometry, lm_head=True).items():
        assert torch.equal(state[key], tensor), key
    assert model.config.rope_parameters["rope_theta"] == ROPE_THETA
    auto = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(t, state[k]) for k, t in auto.state_dict().items())


def test_the_language_model_is_transformers_qwen2(folder, model, inputs):
    with open(f"{folder}/config.json") as file:
        values = json.load(file)
    names = Qwen2Config().to_dict().keys() - {"model_type", "architectures"}
    config = Qwen2Config(**{k: values[k] for k in names & values.keys()}, rope_theta=values["rope_theta"])
    assert config.rope_parameters["rope_theta"] == ROPE_THETA
    plain = Qwen2ForCausalLM(config).eval()
    plain.load_state_dict({k: model.state_dict()[k] for k in plain.state_dict()})
    batch = {k: t[1:] for k, t in inputs[0].items()}
    with torch.no_grad():
        expected = plain(inputs_embeds=model.embed(**{k: t for k, t in batch.items() if k != "attention_mask"})).logits
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-4, rtol=1e-4)


def test_the_image_encoder_is_transformers_clip(folder, geometry, model, inputs):
    clip = CLIPVisionModel.from_pretrained(f"{folder}/../openai/clip-vit-base-patch16").eval()
    assert clip.config.num_hidden_layers == geometry["clip_layers"]
    images = inputs[1][1][0, :2]
    with torch.no_grad():
        expected = clip(images, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(model.model.image_vision_tower(images), expected, atol=1e-4, rtol=1e-4)


def test_a_batch_says_what_its_rows_say_alone(model, inputs):
    batch, pixels = inputs
    new = model.generate(**batch, max_new_tokens=5, do_sample=False)
    for row in range(2):
        with torch.no_grad():
            alone = model.encode_video(*(p[row : row + 1] for p in pixels))
        for ours, name in zip(alone, ("video_features", "context_features"), strict=True):
            torch.testing.assert_close(ours[0], batch[name][row], atol=1e-4, rtol=1e-4)
        start = int((batch["attention_mask"][row] == 0).sum())
        single = model.generate(batch["input_ids"][row : row + 1, start:], *alone, max_new_tokens=5, do_sample=False)
        assert single[0].tolist() == new[row].tolist()


def test_what_is_saved_again_is_the_same_file(folder, model, tmp_path):
    model.save_pretrained(tmp_path, layout="official")
    again, first = load_file(tmp_path / "model.safetensors"), load_file(f"{folder}/model.safetensors")
    assert again.keys() == first.keys() and all(torch.equal(again[k], t) for k, t in first.items())


def test_encoders_of_another_size_than_those_inside_bring_their_own_geometry(folder, geometry, model, tmp_path):
    other = geometry | {"clip_layers": 3, "vm_depth": 2, "clip_heads": 1}
    weights.write_checkpoint(tmp_path, other)
    model.save_pretrained(tmp_path / "ours")  # its config.json tells the geometry of the encoders inside
    ours = load(
        tmp_path / "ours",
        video_encoder=tmp_path / "OpenGVLab/VideoMamba",
        image_encoder=tmp_path / "openai/clip-vit-base-patch16",
    )
    assert (ours.config.video_num_layers, ours.config.image_num_layers, ours.config.image_num_heads) == (2, 3, 1)
    assert all(torch.equal(ours.state_dict()[k], t) for k, t in weights.state_dict(other).items())
