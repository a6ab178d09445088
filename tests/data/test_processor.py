import json
from pathlib import Path

import pytest
import torch

from mobilevideogpt import MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import SUPERVISED
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.video.frames import SIDE
from mobilevideogpt.video.sampling import NUM_FRAMES

PARITY = Path(__file__).parents[1] / "parity"
QUESTION = "What is the person doing in this video?"
ANSWER = "The person lifts the left arm."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small byte-pair vocabulary with Qwen2.5's special tokens, as the slow tokenizer stored it."""
    path = tmp_path_factory.mktemp("tokenizer")
    content = json.loads((PARITY / "golden.json").read_text())["tiny_tokenizer"]
    (path / "vocab.json").write_text(json.dumps(content["vocab"]))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(content["merges"]) + "\n")
    (path / "tokenizer_config.json").write_text(json.dumps(content["tokenizer_config"]))
    return path


@pytest.fixture(scope="module")
def processor(folder):
    return MobileVideoGPTProcessor.from_pretrained(folder)


def test_frames_are_as_many_and_as_large_as_the_model_takes():
    config = MobileVideoGPTConfig()
    assert (config.num_frames, config.image_size) == (NUM_FRAMES, SIDE)


def test_the_answer_is_supervised_with_its_header_and_the_turn_marks_of_the_others(processor):
    row = processor.encode_text(QUESTION, ANSWER)
    tokenizer = processor.tokenizer
    shown = [i for i in row["labels"] if i != -100]
    marks = "<|im_start|><|im_end|><|im_start|><|im_end|>"
    assert tokenizer.decode(shown) == f"{marks}<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
    assert all(label in (-100, i) for i, label in zip(row["input_ids"], row["labels"], strict=True))


def test_a_video_is_its_number_of_placeholders_and_none_is_supervised(processor):
    row = processor.encode_text(QUESTION, ANSWER)
    places = [n for n, i in enumerate(row["input_ids"]) if i == processor.video_token_id]
    assert places == list(range(places[0], places[0] + 2402))
    assert {row["labels"][n] for n in places} == {-100}


@pytest.mark.parametrize(
    "prompt", [QUESTION, f"<video>\n{QUESTION}", f"Here: <video>. {QUESTION}", f"{QUESTION}\n<video>"]
)
def test_training_and_inference_see_the_same_question(processor, prompt):
    asked, trained = processor.encode_text(prompt), processor.encode_text(prompt, ANSWER)
    length = len(asked["input_ids"])
    assert trained["input_ids"][:length] == asked["input_ids"]
    assert trained["labels"][:length] == asked["labels"]
    assert processor.tokenizer.decode(trained["input_ids"][length:]) == f"{ANSWER}<|im_end|>\n"


def test_every_special_token_that_is_supervised_is_in_the_vocabulary(processor):
    assert set(SUPERVISED) <= set(processor.tokenizer.get_vocab())


def test_a_saved_processor_gives_the_same_ids(processor, tmp_path):
    MobileVideoGPTProcessor(processor.tokenizer, min_frames=8).save_pretrained(tmp_path)
    again = MobileVideoGPTProcessor.from_pretrained(tmp_path)
    assert (again.min_frames, again.max_frames) == (8, 16)
    assert again.encode_text(QUESTION, ANSWER) == processor.encode_text(QUESTION, ANSWER)
    assert MobileVideoGPTProcessor.from_pretrained(tmp_path, min_frames=16).min_frames == 16


def test_a_saved_tokenizer_has_the_files_that_the_original_code_reads(processor, folder, tmp_path):
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()) == json.loads((folder / "vocab.json").read_text())
    assert (tmp_path / "merges.txt").read_text() == (folder / "merges.txt").read_text()
    ours, theirs = (json.loads((path / "tokenizer_config.json").read_text()) for path in (tmp_path, folder))
    assert ours["additional_special_tokens"] == theirs["additional_special_tokens"] == list(SUPERVISED)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_fills_each_row_on_the_side_asked_for(processor, side):
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "video_features": torch.ones(2, 3)},
        {"input_ids": [8], "labels": [8], "video_features": torch.zeros(2, 3)},
    ]
    batch = processor.pad(rows, padding_side=side)
    pad = processor.tokenizer.pad_token_id
    short = {"left": slice(None, None, -1), "right": slice(None)}[side]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, pad, pad][short]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100][short]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0][short]]
    assert batch["video_features"].shape == (2, 2, 3)


def test_a_clip_and_a_question_become_what_the_model_takes(processor):
    clip = PARITY / "00000340.mp4"
    batch = processor(videos=[clip], prompts=[QUESTION])
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values_videos", "pixel_values_context"}
    assert batch["pixel_values_videos"].shape == batch["pixel_values_context"].shape == (1, 16, 3, 224, 224)
    batch = processor(videos=[clip, clip], prompts=[QUESTION, "And now?"], responses=[ANSWER, "It ends."])
    assert batch["labels"].shape == batch["input_ids"].shape
    assert batch["attention_mask"][:, 0].tolist() == [1, 1] and batch["attention_mask"][1, -1] == 0


def test_videos_without_questions_are_refused(processor):
    with pytest.raises(ValueError, match="2 videos and 1 prompts"):
        processor(videos=["a.mp4", "b.mp4"], prompts=[QUESTION])
