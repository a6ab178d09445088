import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.errors import InputError
from mobilevideogpt.model import checkpoint_files
from mobilevideogpt.model.geometry import IMAGE_PREFIX, VIDEO_PREFIX
from mobilevideogpt.model.model_paths import VIDEO_FILE

load = MobileVideoGPTForConditionalGeneration.from_pretrained


@pytest.fixture
def folder(tiny, tmp_path):
    """The tiny model as the original code would have saved it: not a word of the encoders' geometry."""
    path = tmp_path / "model"
    tiny.save_pretrained(path, layout="official")
    config = json.loads((path / "config.json").read_text())
    own = [k for k in config if k.startswith(("video_", "image_num", "image_size", "image_hidden", "image_inter"))]
    for key in [*own, "num_frames", "select_highest", "patch_size"]:
        if key != "video_token_id":
            del config[key]
    (path / "config.json").write_text(json.dumps(config))
    return path


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def equal(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("options", [{}, {"layout": "official"}, {"max_shard_size": "100KB"}])
def test_what_is_saved_is_loaded_to_the_bit(tiny, tmp_path, options):
    tiny.save_pretrained(tmp_path, **options)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("max_shard_size" in options)
    model = load(tmp_path)
    assert equal(model, tiny)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any(p.requires_grad for n, p in model.named_parameters() if "vision_tower" in n)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"layout": "official", "max_shard_size": "50KB"}])
def test_half_precision_is_saved_and_loaded_to_the_bit(tiny, tmp_path, dtype, options):
    tiny.save_pretrained(tmp_path / "full")
    half = load(tmp_path / "full", dtype=dtype)
    half.save_pretrained(tmp_path / "half", **options)
    again = load(tmp_path / "half")
    assert equal(again, half)
    assert again.dtype == dtype and again.model.vision_tower.vision_encoder.norm.weight.dtype == torch.float32
    config = json.loads((tmp_path / "half/config.json").read_text())
    assert config.get("torch_dtype", config.get("dtype")) == str(dtype).removeprefix("torch.")


def test_the_geometry_of_the_encoders_is_read_from_the_tensors(folder, tiny):
    assert equal(load(folder), tiny)


def test_the_official_layout_is_what_the_original_code_reads(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, layout="official")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "MobileVideoGPT_qwen"
    assert config["architectures"] == ["MobileVideoGPTQwenForCausalLM"]
    assert config["rope_theta"] == 1000000.0 and "rope_parameters" not in config
    assert config["torch_dtype"] == "float32" and "dtype" not in config
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(tiny.state_dict()) - {"lm_head.weight"}


def test_a_layout_of_another_name_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="oficial"):
        tiny.save_pretrained(tmp_path, layout="oficial")


@pytest.mark.parametrize(
    "key",
    ["model.norm.weight", f"{VIDEO_PREFIX}vision_encoder.layers.1.mixer.A_b_log", "model.mm_projector.peg.peg.0.bias"],
)
def test_a_missing_tensor_is_named(folder, key):
    edit(folder, lambda tensors: tensors.pop(key))
    with pytest.raises(InputError, match=f"missing: {key}"):
        load(folder)


def test_stray_and_misshapen_tensors_are_named_together(folder):
    def change(tensors):
        tensors["model.extra"] = torch.zeros(2)
        tensors["model.norm.weight"] = torch.zeros(5)

    edit(folder, change)
    with pytest.raises(InputError, match=r"(?s)unexpected: model\.extra.*wrong shape: model\.norm\.weight is \(5,\)"):
        load(folder)


@pytest.mark.parametrize(
    "key",
    [
        f"{VIDEO_PREFIX}vision_encoder.cls_token",
        f"{VIDEO_PREFIX}vision_encoder.temporal_pos_embedding",
        f"{VIDEO_PREFIX}vision_encoder.layers.0.mixer.A_log",
        f"{VIDEO_PREFIX}vision_encoder.layers.0.mixer.D",
        f"{VIDEO_PREFIX}vision_encoder.layers.0.mixer.conv1d.weight",
        f"{IMAGE_PREFIX}vision_model.embeddings.class_embedding",
        f"{IMAGE_PREFIX}vision_model.embeddings.patch_embedding.weight",
        f"{IMAGE_PREFIX}vision_model.encoder.layers.0.mlp.fc1.weight",
    ],
)
def test_a_tensor_that_shows_the_geometry_is_named_if_it_is_misshapen(folder, key):
    right = load_file(folder / "model.safetensors")[key]
    for wrong in (right.flatten(), right[None], right.flatten()[0], right[..., :-1], torch.cat([right, right])):
        if wrong.shape != right.shape:
            edit(folder, lambda tensors, wrong=wrong: tensors.update({key: wrong.clone()}))
            with pytest.raises(InputError, match=re.escape(key)):
                load(folder)


def test_what_may_be_there_or_not_is_no_error(folder, tiny):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors[f"{IMAGE_PREFIX}vision_model.embeddings.position_ids"] = torch.arange(197)[None]
        for key in [k for k in tensors if "clip_decoder" in k]:
            del tensors[key]

    edit(folder, change)
    model = load(folder)
    assert torch.equal(model.model.embed_tokens.weight, tiny.model.embed_tokens.weight)
    assert not model.model.vision_tower.vision_encoder.clip_decoder[0].head.weight.any()


def test_a_missing_shard_is_named(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        load(tmp_path)


def test_a_block_that_is_in_no_shard_but_in_the_index_is_named(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, max_shard_size="100KB")
    last = f"{VIDEO_PREFIX}vision_encoder.layers.1."
    for shard in tmp_path.glob("*.safetensors"):
        tensors = {k: t for k, t in load_file(shard).items() if not k.startswith(last)}
        save_file(tensors, shard, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"(?s)missing: .*{re.escape(last)}mixer.A_log"):
        load(tmp_path)


def test_a_damaged_file_is_named(folder, tmp_path):
    file = tmp_path / "mamba.pth"
    torch.save({"model": {"vision_encoder.cls_token": torch.zeros(5000)}}, file)
    for content in (b"abc", file.read_bytes()[:5000]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"mamba\.pth: .*damaged"):
            load(folder, video_encoder=file)
    for strange in ([1, 2], {"vision_encoder.cls_token": 3}):
        torch.save(strange, file)
        with pytest.raises(InputError, match=r"mamba\.pth: .*(not a state dict|cls_token is not a tensor)"):
            load(folder, video_encoder=file)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        load(folder)


def test_fields_of_the_configuration_are_taken_as_arguments(folder):
    model = load(folder, select_highest=False, output_attentions=True, attn_implementation="eager", dtype="bfloat16")
    assert not model.config.select_highest and model.config.output_attentions and model.dtype == torch.bfloat16
    with pytest.raises(InputError, match=r"unexpected: model\.layers\.1\."):
        load(folder, num_hidden_layers=1)


def test_encoders_that_are_nowhere_are_asked_for(folder):
    def change(tensors):
        for key in [k for k in tensors if k.startswith(VIDEO_PREFIX)]:
            del tensors[key]

    edit(folder, change)
    with pytest.raises(InputError, match="video_encoder"):
        load(folder)


def test_encoders_come_from_their_own_files_where_the_checkpoint_has_none(folder, tiny, tmp_path):
    own = {k.removeprefix(VIDEO_PREFIX): t.clone() for k, t in tiny.state_dict().items() if k.startswith(VIDEO_PREFIX)}
    own |= {"vision_encoder.pool_norm.weight": torch.ones(3), "temp": torch.tensor(0.07)}
    torch.save({"model": own}, tmp_path / VIDEO_FILE)
    clip = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=1,
            image_size=224,
            patch_size=16,
        )
    )
    clip.save_pretrained(tmp_path / "clip")
    edit(folder, lambda tensors: [tensors.pop(k) for k in list(tensors) if "vision_tower" in k])
    model = load(folder, video_encoder=tmp_path / VIDEO_FILE, image_encoder=tmp_path / "clip")
    assert equal(model.model.vision_tower, tiny.model.vision_tower)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = clip(images, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(model.model.image_vision_tower(images), expected, atol=1e-5, rtol=1e-5)
    edit(tmp_path / "clip", lambda tensors: [tensors.pop(k) for k in list(tensors) if "layers.1." in k])
    with pytest.raises(InputError, match=r"missing: .*encoder\.layers\.1\.mlp"):  # which CLIP's config.json tells
        load(folder, video_encoder=tmp_path / VIDEO_FILE, image_encoder=tmp_path / "clip")


@pytest.mark.parametrize("argument", ["video_encoder", "image_encoder"])
def test_an_encoder_that_is_not_there_is_named(folder, argument):
    with pytest.raises(InputError, match="no/such/place"):
        load(folder, **{argument: "/no/such/place"})


def test_what_the_encoders_files_hold_besides_is_told_unless_it_is_expected(folder, tiny, tmp_path, caplog):
    own = {k.removeprefix(VIDEO_PREFIX): t.clone() for k, t in tiny.state_dict().items() if k.startswith(VIDEO_PREFIX)}
    torch.save(own | {"text_encoder.x": torch.ones(1), "temp": torch.ones(())}, tmp_path / VIDEO_FILE)
    load(folder, video_encoder=tmp_path)
    assert not caplog.records
    torch.save(own | {"stranger.weight": torch.ones(1)}, tmp_path / VIDEO_FILE)
    load(folder, video_encoder=tmp_path)
    assert "stranger.weight" in caplog.text
    torch.save(own | {"vision_encoder.stranger": torch.ones(1)}, tmp_path / VIDEO_FILE)
    with pytest.raises(InputError, match=r"unexpected: .*vision_encoder\.stranger"):
        load(folder, video_encoder=tmp_path)


def test_position_tables_of_another_size_are_named(folder):
    def change(tensors):
        key = f"{VIDEO_PREFIX}vision_encoder.pos_embed"
        tensors[key] = tensors[key][:, :145].clone()

    edit(folder, change)
    with pytest.raises(InputError, match=r"wrong shape: .*pos_embed is \(1, 145, 24\), the model has \(1, 197, 24\)"):
        load(folder)


def test_an_encoder_file_that_would_run_code_is_refused(folder, tmp_path):
    torch.save({"model": {}, "arguments": Path("x")}, tmp_path / "mamba.pth")
    with pytest.raises(InputError, match=r"mamba\.pth: contains more than plain tensors.*state dict alone"):
        load(folder, video_encoder=tmp_path / "mamba.pth")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="absent"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match=r"neither model\.safetensors"):
        load(tmp_path)


def test_hub_ids_are_fetched_each_at_its_own_revision(folder, tiny, tmp_path, monkeypatch):
    own = {k.removeprefix(VIDEO_PREFIX): t for k, t in tiny.state_dict().items() if k.startswith(VIDEO_PREFIX)}
    torch.save(own, tmp_path / VIDEO_FILE)
    asked = []

    def snapshot_download(repo, allow_patterns, **hub):
        asked.append((repo, hub))
        return folder

    def hf_hub_download(repo, file, **hub):
        asked.append((repo, file, hub))
        return tmp_path / file

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    monkeypatch.setattr(checkpoint_files, "hf_hub_download", hf_hub_download)
    for video_encoder in ("OpenGVLab/VideoMamba", f"OpenGVLab/VideoMamba/{VIDEO_FILE}"):
        model = load("owner/name", video_encoder=video_encoder, revision="abc")
        assert equal(model, tiny)
    assert asked == [("owner/name", {"revision": "abc"}), ("OpenGVLab/VideoMamba", VIDEO_FILE, {})] * 2
