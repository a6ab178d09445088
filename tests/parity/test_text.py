import json

import pytest
import torch
from transformers import AutoProcessor

from mobilevideogpt import MobileVideoGPTForConditionalGeneration, MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import SUPERVISED, VIDEO, encode_turns
from tests.parity import weights
from tests.parity.measure import ABOUT, expanded
from tests.parity.test_parity import ROLES

PROMPTS = ABOUT["prompts"]
QWEN_TOKENS = ("<|endoftext|>", *SUPERVISED, "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>")
QWEN_TOKENS += ("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")


@pytest.fixture(scope="module")
def processor(checkpoint) -> MobileVideoGPTProcessor:
    return MobileVideoGPTProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def qwen_sized(tmp_path_factory) -> MobileVideoGPTProcessor:
    """The small vocabulary filled up to Qwen2.5's size, with its 22 added tokens at their places."""
    folder = tmp_path_factory.mktemp("qwen")
    weights.write_tokenizer(folder)
    vocab = json.loads((folder / "vocab.json").read_text())
    first = PROMPTS["qwen2.5"]["pad_token_id"]
    vocab |= {f"filler{i}": i for i in range(len(vocab), first)}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    like = config["added_tokens_decoder"]["400"]
    config["added_tokens_decoder"] = {
        str(first + n): like | {"content": text, "special": text not in ("<tool_call>", "</tool_call>")}
        for n, text in enumerate(QWEN_TOKENS)
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return MobileVideoGPTProcessor.from_pretrained(folder)


def test_a_question_and_its_answer_are_the_originals_sample_and_give_its_loss(processor, measured):
    (_, question), (_, answer) = turns_of("video_first")
    row = processor.encode_text(question, answer)
    golden = expanded("A", measured.model.config)
    assert row["input_ids"] == golden["input_ids"][0].tolist()
    assert row["labels"] == golden["labels"][0].tolist()
    batch = processor.pad([row | {k: t[0] for k, t in measured.features("A").items()}])
    with torch.no_grad():
        loss = measured.model(**batch).loss.item()
    assert loss == pytest.approx(ABOUT["full"]["A"]["loss"], abs=1e-4)


def test_rows_of_unequal_length_are_collated_as_the_original_does(processor):
    golden = ABOUT["collator_tiny"]["video_first+multi_turn"]
    rows = []
    for name in ("video_first", "multi_turn"):
        input_ids, labels = encode_turns(processor.tokenizer, turns_of(name), -200, 16)
        rows.append({"input_ids": input_ids, "labels": labels})
    batch = processor.pad(rows)
    places = batch["input_ids"] == -200
    assert batch["input_ids"].tolist() == golden["input_ids"]
    assert batch["labels"].tolist() == torch.tensor(golden["labels"]).masked_fill(places, -100).tolist()
    assert batch["attention_mask"].tolist() == torch.tensor(golden["attention_mask"]).long().tolist()


def test_in_qwens_vocabulary_the_placeholder_and_the_supervised_tokens_are_its_own(qwen_sized):
    vocab = qwen_sized.tokenizer.get_vocab()
    assert len(vocab) == PROMPTS["qwen2.5"]["len_tokenizer"]
    assert {name: vocab[name] for name in SUPERVISED} == PROMPTS["qwen2.5"]["special_ids"]
    assert qwen_sized.video_token_id == 151656
    row = qwen_sized.encode_text("What?", "This.")
    assert row["input_ids"].count(151656) == 2402 and 151656 not in row["labels"]
    marks = [i for i in row["input_ids"] if i in (151644, 151645)]
    assert marks == [i for i in row["labels"] if i in (151644, 151645)] == [151644, 151645] * 3


def test_in_qwens_vocabulary_the_model_takes_the_same_placeholder(qwen_sized, checkpoint, tmp_path):
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(checkpoint)
    model.config.video_token_id = 7
    model.save_pretrained(tmp_path, layout="official")
    qwen_sized.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["video_token_id"]  # as released
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = MobileVideoGPTForConditionalGeneration.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, min_frames=8)
    assert isinstance(processor, MobileVideoGPTProcessor) and processor.min_frames == 8
    assert again.config.video_token_id == processor.video_token_id == 151656


def turns_of(name: str) -> list[tuple[str, str]]:
    """The recorded conversation, its video where the original puts it."""
    turns = [(ROLES[t["from"]], t["value"]) for t in PROMPTS["tiny"]["training"][name]["conversation"]]
    assert turns[0][1].startswith(VIDEO)
    return turns
