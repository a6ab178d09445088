"""Generation and the whole evaluation, with a tiny random model."""

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import load_for_inference, predict, predict_clip
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


@pytest.fixture
def model(tiny):
    return load_for_inference(tiny.base)


def answers(model, tiny, batch_size=4, records=None):
    records = tiny.records if records is None else records
    options = {"batch_size": batch_size, "max_new_tokens": 8}
    return predict(model, tiny.processor, records, tiny.features, tiny.store, **options)


def test_answers_do_not_depend_on_who_shares_the_batch(model, tiny):
    together = answers(model, tiny)
    assert together == answers(model, tiny, batch_size=1)
    assert len(set(together)) > 1


def test_an_answer_holds_neither_prompt_nor_special_tokens(model, tiny):
    for answer in answers(model, tiny):
        assert "What do you see" not in answer
        assert "<|" not in answer


def test_a_half_precision_base_answers_with_its_float32_adapter(tiny):
    half = MobileVideoGPTForConditionalGeneration.from_pretrained(tiny.base, dtype=torch.bfloat16)
    assert len(answers(load_adapter(half, tiny.adapter), tiny)) == 3


def test_a_clip_without_features_is_named(model, tiny):
    lost = tiny.records[0] | {"video": "dataset/squats/lost.mp4"}
    with pytest.raises(InputError, match=r"squats/lost\.mp4: no features"):
        answers(model, tiny, records=[lost])


def test_the_evaluation_sets_the_base_and_the_control_beside_the_adapter(model, tiny):
    base = answers(model, tiny)
    tuned = answers(load_adapter(load_for_inference(tiny.base), tiny.adapter), tiny)
    assert base != tuned  # else this test shows nothing
    options = {"prompt_names_exercise": False, "seed": 0, "batch_size": 2, "max_new_tokens": 8, "progress": False}
    arguments = (tiny.processor, tiny.adapter, tiny.records, tiny.features, tiny.store)
    metrics, rows = evaluate(model, *arguments, **options)
    assert [row["base"] for row in rows] == base
    assert [row["finetuned"] for row in rows] == tuned
    assert {"video", "prompt", "reference", "mismatched_video", "shown_video"} <= rows[0].keys()
    swapped = [a | {"video": row["shown_video"]} for a, row in zip(tiny.records, rows, strict=True)]
    again = load_adapter(load_for_inference(tiny.base), tiny.adapter)
    assert [row["mismatched_video"] for row in rows] == answers(again, tiny, records=swapped)
    for name in ("base", "finetuned", "mismatched_video"):
        assert {"n", "exercise_accuracy", "feedback_accuracy", "rougeL"} <= metrics[name].keys()
    assert {"shown_exercise_accuracy", "kept_exercise", "kept_answer"} <= metrics["mismatched_video"].keys()
    assert metrics["mismatched_video"]["n_differing"] == 3


def test_an_answer_that_is_right_for_the_clip_shown_too_is_not_called_kept(model, tiny):
    options = {"prompt_names_exercise": True, "seed": 0, "batch_size": 3, "max_new_tokens": 1, "progress": False}
    metrics, rows = evaluate(model, tiny.processor, tiny.adapter, tiny.records, tiny.features, tiny.store, **options)
    feedback = {row["video"]: row["reference"].split(" - ")[1] for row in rows}  # squats and squat_jump: good form
    differing = [row for row in rows if feedback[row["video"]] != feedback[row["shown_video"]]]
    assert metrics["mismatched_video"]["n_differing"] == len(differing) == 2
    kept = sum(row["finetuned"] == row["mismatched_video"] for row in differing)
    assert metrics["mismatched_video"]["kept_answer"] == kept / 2


def test_an_empty_test_split_is_an_error(model, tiny):
    options = {"prompt_names_exercise": False, "seed": 0, "batch_size": 2, "max_new_tokens": 8}
    with pytest.raises(InputError, match="test split is empty"):
        evaluate(model, tiny.processor, tiny.adapter, [], {}, tiny.store, **options)


def test_one_file_is_answered_from_its_pixels_as_from_its_features(model, tiny, draw_clip, tmp_path):
    clip = tmp_path / "clip.mp4"
    draw_clip(clip)
    prompt = "<video>\nWhat do you see?"
    direct = predict_clip(model, tiny.processor, clip, prompt, max_new_tokens=8)
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    video, context = model.encode_video(**pixels)
    tiny.store.write("f" * 64, {"video_features": video[0].detach(), "context_features": context[0].detach()})
    row = tiny.records[0] | {"video": "clip"}
    options = {"batch_size": 1, "max_new_tokens": 8}
    assert [direct] == predict(model, tiny.processor, [row], {"clip": "f" * 64}, tiny.store, **options)


def test_the_encoders_see_a_file_in_float32_whatever_the_base_is(tiny, draw_clip, tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    draw_clip(clip)
    half = MobileVideoGPTForConditionalGeneration.from_pretrained(tiny.base, dtype=torch.bfloat16).eval()
    seen = []
    monkeypatch.setattr(half, "generate", lambda **inputs: seen.append(inputs) or torch.tensor([[0]]))
    predict_clip(half, tiny.processor, clip, "Go.", max_new_tokens=1)
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    for name, expected in zip(("video_features", "context_features"), half.encode_video(**pixels), strict=True):
        assert torch.equal(seen[0][name], expected)


def test_an_answer_ends_with_its_turn_whatever_the_checkpoint_says(model, tiny, monkeypatch):
    end = tiny.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    seen = []
    monkeypatch.setattr(model, "generate", lambda **inputs: seen.append(inputs) or torch.tensor([[0]] * 3))
    answers(model, tiny)
    assert end in seen[0]["eos_token_id"]


def test_a_file_that_is_not_there_is_named(model, tiny):
    with pytest.raises(InputError, match=r"gone\.mp4: there is no such clip"):
        predict_clip(model, tiny.processor, "gone.mp4", "Go.", max_new_tokens=8)
