"""The tiny base checkpoint: what it is, and that its lessons keep clear of the sample."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.sample.exercises import ADVICE, EXERCISES
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.pretrain import (
    BASE,
    NOT_SPECIAL,
    SPECIAL,
    Lessons,
    draw_lesson,
    pretrain,
    resembles_an_exercise,
)
from mobilevideogpt.sample.render import ClipSpec, describe


@pytest.fixture(scope="module")
def processor():
    return MobileVideoGPTProcessor.from_pretrained(BASE)


def test_the_base_is_small_and_loads_through_the_same_code_as_the_released_one(processor):
    assert sum(file.stat().st_size for file in BASE.iterdir()) < 10e6
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32)
    assert model.config.num_visual_tokens == processor.num_visual_tokens == 2402
    assert model.config.video_token_id == processor.video_token_id


def test_its_tokenizer_carries_qwen2s_special_tokens_in_order(processor):
    ids = processor.tokenizer.convert_tokens_to_ids(SPECIAL + NOT_SPECIAL)
    assert ids == list(range(ids[0], ids[0] + 22))
    assert processor.tokenizer.pad_token == "<|endoftext|>"
    assert processor.tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_random_movement_that_resembles_an_exercise_is_told(exercise):
    for variation in (NO_ISSUE, *EXERCISES[exercise].faults):
        assert all(resembles_an_exercise(describe(ClipSpec(exercise, variation, (seed,)))) for seed in range(8))


def test_no_lesson_names_an_exercise_or_a_fault_of_the_sample():
    rng = np.random.default_rng(0)
    forbidden = [name.replace("_", " ") for name in EXERCISES] + list(ADVICE) + list(ADVICE.values())
    answers = [draw_lesson(rng)[2] for _ in range(200)]
    assert len(set(answers)) > 80
    assert not [text for text in answers if any(word in text for word in forbidden)]


def test_a_lesson_asks_and_answers_about_a_clip(processor):
    batch = Lessons(processor, batch_size=2, seed=0).batch(np.random.default_rng(0))
    assert batch["frames"].shape == (2, 16, 240, 320, 3)
    assert (batch["input_ids"] == processor.video_token_id).sum() == 2 * 2402
    answer = batch["input_ids"][0][batch["labels"][0] >= 0]
    assert "assistant" in processor.tokenizer.decode(answer)
    assert (batch["text_labels"] >= 0).any(1).all()


@pytest.mark.slow
def test_pretraining_runs_from_nothing_and_goes_on_from_its_result(tmp_path):
    options = {"steps": 1, "batch_size": 1, "minutes": 10, "workers": 0, "seed": 0}
    pretrain(tmp_path / "first", **options, start=None)
    pretrain(tmp_path / "second", **options, start=tmp_path / "first")
    first, second = (
        MobileVideoGPTForConditionalGeneration.from_pretrained(tmp_path / name, dtype=torch.float32).state_dict()
        for name in ("first", "second")
    )
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert {"model.embed_tokens.weight", "model.mm_projector.mlp.mlp.0.weight"} <= moved
    assert any("image_vision_tower" in name for name in moved)
    assert any("A_b_log" in name for name in moved)
    assert sum(tensor.numel() for tensor in first.values()) < 5e6


def test_the_language_alone_is_taught_in_place(tmp_path):
    folder = shutil.copytree(BASE, tmp_path / "base")
    before = load_file(folder / "model.safetensors")
    again = folder / ".." / "base"  # the same folder, spelled in another way
    pretrain(folder, steps=1, batch_size=1, minutes=10, workers=0, seed=0, start=again, language_only=True)
    after = load_file(folder / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"model.embed_tokens.weight", "model.mm_projector.mlp.mlp.0.weight"} <= moved
    assert not [name for name in moved if "vision_tower" in name]
