import pytest
import torch
from transformers import AutoProcessor

from mobilevideogpt import MobileVideoGPTConfig, MobileVideoGPTForConditionalGeneration, MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import VIDEO, encode_turns, with_video
from mobilevideogpt.model.selection import frame_scores, select_frames
from mobilevideogpt.video.sampling import frame_indices
from tests.parity import weights
from tests.parity.measure import ABOUT, GOLDEN, LEFT_OUT, NAMES, expanded, probed

ROLES = {"human": "user", "gpt": "assistant"}
# Prompts for pictures, which this package does not take, and one recorded without its text.
NOT_TAKEN = ("image_token", "twenty_images", "text_only_has_image_False")


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_is_as_the_original_code_computes_it(measured, name):
    assert measured.error(name) <= ABOUT["tensors"][name].get("suggested_atol", 0)


@pytest.mark.parametrize("sample", ["A", "AB"])
def test_the_loss_is_as_the_original_code_computes_it(measured, sample):
    assert measured.loss(sample) == pytest.approx(ABOUT["full"][sample]["loss"], abs=1e-4)


@pytest.mark.parametrize("name", ABOUT["grad_norms_A"])
def test_a_gradient_has_the_norm_of_the_original_codes(measured, name):
    assert measured[f"grad.A.{name}"].norm().item() == pytest.approx(ABOUT["grad_norms_A"][name], rel=1e-3)


def test_only_the_language_model_and_the_projectors_get_a_gradient(measured):
    assert set(measured._group("grad.A")) == {f"grad.A.{name}" for name in ABOUT["grad_norms_A"]}


def test_the_loss_in_bfloat16_is_near(checkpoint, measured):
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.bfloat16)
    with torch.no_grad():
        loss = model(**expanded("A", model.config), **measured.features("A")).loss.item()
    assert loss == pytest.approx(ABOUT["full"]["A"]["loss"], abs=2e-2)


def test_the_encoder_is_not_the_one_that_reads_forward_only(measured):
    ours = measured["videomamba.x_vis.probe"].flatten()
    assert (ours - GOLDEN["fork_head.videomamba.x_vis.probe"]).abs().max() > 1


@pytest.mark.parametrize("sample", ["context_a", "context_features"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_frames_chosen_in_half_precision_are_the_originals(measured, sample, dtype):
    features = weights.inputs(sample) if sample == "context_features" else measured.features("A")["context_features"][0]
    scores = frame_scores(features.reshape(2, 8, 196, 768).to(dtype))
    golden = ABOUT["selection"]["low_precision"][f"{sample}/{dtype}"]
    assert select_frames(scores, 4).tolist() == golden["indices"]
    fine = ABOUT["selection"]["low_precision"][f"{sample}/torch.float32"]["scores"]
    torch.testing.assert_close(scores, torch.tensor(fine), atol=1e-3 if dtype == torch.float32 else 0.5, rtol=0)


def test_a_chunk_of_padding_alone_is_chosen_from_as_in_the_original(measured):
    context = weights.inputs("context_a")
    context[8:] = 0
    with torch.no_grad():
        features = measured.model.model.image_vision_tower(context)
    chosen = select_frames(frame_scores(features.unflatten(0, (2, 8))), 4)
    assert chosen.tolist() == ABOUT["selection"]["chunk2_zero_padding_cpu"]


def test_nothing_is_left_out_that_is_not_there():
    assert [start for start in LEFT_OUT if not any(name.startswith(start) for name in GOLDEN)] == []


def test_every_parameter_of_a_block_moves_its_output(measured):
    block = measured.encoder.layers[1]
    names, parameters = zip(*block.named_parameters(), strict=True)
    block.requires_grad_(True)
    hidden, _ = block(weights.inputs("mixer_seq"))
    gradients = torch.autograd.grad(probed(hidden).square().sum(), parameters)
    block.requires_grad_(False)
    assert [name for name, g in zip(names, gradients, strict=True) if g.norm() < 1e-3] == []


def test_the_full_geometry_has_the_released_keys_and_shapes():
    with torch.device("meta"):
        model = MobileVideoGPTForConditionalGeneration(MobileVideoGPTConfig())
    expected = weights.shapes(weights.FULL, towers=True, lm_head=True)
    assert len(expected) == 1056
    assert {k: tuple(t.shape) for k, t in model.state_dict().items()} == expected
    assert sum(p.numel() for p in model.parameters()) == ABOUT["state_dict"]["full_param_counts"]["total (tied)"]


@pytest.mark.parametrize("which", ["training", "inference"])
@pytest.mark.parametrize("case", ABOUT["frame_sampling"], ids=lambda c: f"{c['num_frames']}@{c['fps']}")
def test_the_frames_chosen_are_the_originals_where_it_chose_any(case, which):
    ours = frame_indices(case["num_frames"], case["fps"], min_frames={"training": 8, "inference": 16}[which])
    if "error" in case[which]:  # a single frame, or half a frame a second and less
        assert 0 < len(ours) <= 16 and ours[-1] < case["num_frames"]
    else:
        assert ours == case[which]["decoded_positions"]


@pytest.mark.parametrize("name", [n for n in ABOUT["prompts"]["tiny"]["training"] if n not in NOT_TAKEN])
def test_ids_and_labels_of_a_conversation_are_the_originals(checkpoint, name):
    case = ABOUT["prompts"]["tiny"]["training"][name]
    turns = [(ROLES[t["from"]], t["value"]) for t in case["conversation"]]
    turns = turns[turns[0][0] != "user" :]
    if VIDEO in turns[0][1]:
        turns[0] = ("user", with_video(turns[0][1]))
    tokenizer = MobileVideoGPTProcessor.from_pretrained(checkpoint).tokenizer
    input_ids, labels = encode_turns(tokenizer, turns, video_token_id=-200, num_visual_tokens=16)
    assert input_ids == case["input_ids"]
    assert labels == [-100 if i == -200 else label for i, label in zip(input_ids, case["labels"], strict=True)]


def test_a_question_alone_gives_the_ids_that_generation_starts_from(checkpoint):
    case = ABOUT["prompts"]["tiny"]["inference"]["16"]
    tokenizer = MobileVideoGPTProcessor.from_pretrained(checkpoint).tokenizer
    turns = [("user", "<video>\nWhat is the person doing in this video?")]
    assert encode_turns(tokenizer, turns, video_token_id=-200, num_visual_tokens=16)[0] == case["input_ids"]


def test_the_processor_and_the_model_agree_on_the_placeholders(checkpoint, measured):
    processor, config = AutoProcessor.from_pretrained(checkpoint), measured.model.config
    assert isinstance(processor, MobileVideoGPTProcessor)  # found though a released folder names no processor
    assert processor.video_token_id == config.video_token_id == 413
    assert processor.num_visual_tokens == config.num_visual_tokens == 2402


@pytest.mark.parametrize("wrapper", ["model", "module", None])
@pytest.mark.parametrize("clip_layout", ["vision", "full"])
def test_encoders_from_their_own_files_win(tmp_path, wrapper, clip_layout):
    folder = weights.write_checkpoint(tmp_path, tower_salt="own", pth_wrapper=wrapper, clip_layout=clip_layout)
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(
        folder,
        video_encoder=tmp_path / "OpenGVLab/VideoMamba/videomamba_m16_25M_f8_res224.pth",
        image_encoder=tmp_path / "openai/clip-vit-base-patch16",
    )
    for key, shape in weights.shapes().items():
        salt = "own" if "vision_tower" in key else ""
        assert torch.equal(model.state_dict()[key], weights.param(key, shape, salt)), key
