"""Generation and the whole evaluation, with a tiny random model."""

import json

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


@pytest.fixture
def model(tiny):
    return load_for_inference(tiny.paths)


def answers(model, tiny, batch_size=4, samples=None):
    samples = tiny.samples if samples is None else samples
    return predict(model, tiny.processor, samples, tiny.store, batch_size=batch_size, max_new_tokens=8)


def test_answers_do_not_depend_on_who_shares_the_batch(model, tiny):
    together = answers(model, tiny)
    assert together == answers(model, tiny, batch_size=1)
    assert len(set(together)) > 1


def test_an_answer_contains_neither_prompt_nor_special_tokens(model, tiny):
    for answer in answers(model, tiny):
        assert "What do you see" not in answer
        assert "<|" not in answer


def test_a_half_precision_base_answers_with_its_float32_adapter(tiny):
    half = MobileVideoGPTForConditionalGeneration.from_pretrained(tiny.paths.base, dtype=torch.bfloat16)
    assert len(answers(load_adapter(half, tiny.adapter), tiny)) == 3


def test_a_clip_without_features_is_named(model, tiny):
    lost = {name: value for name, value in tiny.samples[0].items() if name != "features"}
    with pytest.raises(InputError, match=r"squats/0001\.mp4: no features"):
        answers(model, tiny, samples=[lost])


def test_the_evaluation_answers_with_base_adapter_and_control(model, tiny):
    base = answers(model, tiny)
    tuned = answers(load_adapter(load_for_inference(tiny.paths), tiny.adapter), tiny)
    assert base != tuned  # else this test shows nothing
    options = {"prompt_names_exercise": False, "seed": 0, "batch_size": 2, "max_new_tokens": 8, "progress": False}
    arguments = (tiny.processor, tiny.adapter, tiny.samples, tiny.store)
    metrics, rows = evaluate(model, *arguments, **options)
    assert [row["base"] for row in rows] == base
    assert [row["finetuned"] for row in rows] == tuned
    assert {"video", "prompt", "reference", "mismatched_video", "shown_video"} <= rows[0].keys()
    keys = {sample["video"]: sample["features"] for sample in tiny.samples}
    swapped = [sample | {"features": keys[row["shown_video"]]} for sample, row in zip(tiny.samples, rows, strict=True)]
    again = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    assert [row["mismatched_video"] for row in rows] == answers(again, tiny, samples=swapped)
    for name in ("base", "finetuned", "mismatched_video"):
        assert {"n", "exercise_accuracy", "feedback_accuracy", "rougeL"} <= metrics[name].keys()
    assert {"shown_exercise_accuracy", "kept_exercise", "kept_answer"} <= metrics["mismatched_video"].keys()
    assert metrics["mismatched_video"]["n_differing"] == 3


def test_an_answer_that_is_right_for_the_clip_shown_too_is_not_called_kept(model, tiny):
    options = {"prompt_names_exercise": True, "seed": 0, "batch_size": 3, "max_new_tokens": 1, "progress": False}
    metrics, rows = evaluate(model, tiny.processor, tiny.adapter, tiny.samples, tiny.store, **options)
    feedback = {row["video"]: row["reference"].split(" - ")[1] for row in rows}  # squats and squat_jump: good form
    differing = [row for row in rows if feedback[row["video"]] != feedback[row["shown_video"]]]
    assert metrics["mismatched_video"]["n_differing"] == len(differing) == 2
    kept = sum(row["finetuned"] == row["mismatched_video"] for row in differing)
    assert metrics["mismatched_video"]["kept_answer"] == kept / 2


def test_an_empty_test_split_is_an_error(model, tiny):
    options = {"prompt_names_exercise": False, "seed": 0, "batch_size": 2, "max_new_tokens": 8}
    with pytest.raises(InputError, match="test split is empty"):
        evaluate(model, tiny.processor, tiny.adapter, [], tiny.store, **options)


def test_an_answer_ends_with_its_turn_whatever_the_checkpoint_says(model, tiny, monkeypatch):
    end = tiny.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    seen = []
    monkeypatch.setattr(model, "generate", lambda **inputs: seen.append(inputs) or torch.tensor([[0]] * 3))
    answers(model, tiny)
    assert end in seen[0]["eos_token_id"]


def test_the_script_writes_metrics_and_a_line_a_clip(run_script, tiny, tmp_path):
    write_json(tiny.samples, tmp_path / "test.json")
    output = {"metrics": tmp_path / "metrics.json", "predictions": tmp_path / "predictions.jsonl"}
    params = {"store": tiny.store.folder, "uncached": None, "seed": 1, "batch_size": 2, "max_new_tokens": 4}
    params |= {"prompt": "A {exercise}?", "answers": "labels"}
    run_script("evaluate.py", params, output, test=tmp_path / "test.json")
    metrics = json.loads(output["metrics"].read_text())
    assert metrics["finetuned"]["n"] == 3
    assert metrics["settings"]["prompt_names_exercise"] is True
    rows = [json.loads(line) for line in output["predictions"].read_text().splitlines()]
    assert [row["video"] for row in rows] == [sample["video"] for sample in tiny.samples]
