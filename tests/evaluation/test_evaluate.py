"""Generation and the whole evaluation, with a tiny random model."""

import csv
import json
from functools import partial

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.answers import SOURCES, answer_here, answer_on_gpus, load_to_answer
from mobilevideogpt.evaluation.conclusion import conclude
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import answer_limit, load_for_inference, predict
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


@pytest.fixture
def model(tiny):
    return load_for_inference(tiny.paths)


def answers(model, tiny, batch_size=4, samples=None, max_new_tokens=8):
    samples = tiny.samples if samples is None else samples
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    predicted = predict(model, tiny.processor, batches, tiny.store, max_new_tokens=max_new_tokens)
    return [answer.text for batch in predicted for answer in batch]


def evaluated(model, tiny, samples=None, max_new_tokens=8):
    samples = tiny.samples if samples is None else samples
    answer = partial(answer_here, model, tiny.processor, tiny.adapter, tiny.store, progress=False)
    return evaluate(answer, samples, tiny.samples, seed=0, batch_size=2, max_new_tokens=max_new_tokens)


def loading(tiny):
    return partial(load_to_answer, tiny.paths, tiny.adapter, tiny.store.folder, precision="fp32")


def test_processes_answer_as_one_does(tiny):
    questions = {source: [[sample] for sample in tiny.samples] for source in SOURCES}
    alone = answer_here(*loading(tiny)(), questions, max_new_tokens=8, progress=False)
    shared = answer_on_gpus(loading(tiny), 2, questions, max_new_tokens=8, progress=False)
    assert (shared.answers, shared.frames) == (alone.answers, alone.frames)


@pytest.mark.slow
def test_an_error_of_one_process_names_the_clip(tiny):
    lost = [{name: value for name, value in sample.items() if name != "features"} for sample in tiny.samples]
    questions = {"base": [lost[:1], lost[1:2]]}
    with pytest.raises(InputError, match=r"no features were computed"):
        answer_on_gpus(loading(tiny), 2, questions, max_new_tokens=8, progress=False)


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
    metrics, rows = evaluated(model, tiny)
    assert [row["base"] for row in rows] == base
    assert [row["finetuned"] for row in rows] == tuned
    assert {"video", "prompt", "reference", "mismatched_video", "shown_video"} <= rows[0].keys()
    keys = {sample["video"]: sample["features"] for sample in tiny.samples}
    swapped = [sample | {"features": keys[row["shown_video"]]} for sample, row in zip(tiny.samples, rows, strict=True)]
    again = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    assert [row["mismatched_video"] for row in rows] == answers(again, tiny, samples=swapped)
    for name in ("base", "finetuned", "mismatched_video"):
        expected = {"n", "groups", "exercise_accuracy", "feedback_accuracy", "set_f1", "rougeL", "chrf", "bleu", "cut"}
        assert expected | {"intervals", "per_exercise", "confusion"} <= metrics[name].keys()
    assert {"shown_exercise_accuracy", "kept_exercise", "kept_answer"} <= metrics["mismatched_video"].keys()
    assert all(metrics["tokens_per_second"][name] > 0 for name in ("base", "finetuned", "mismatched_video"))
    exercises = {sample["video"]: sample["exercise"] for sample in tiny.samples}
    for row in rows:
        assert exercises[row["shown_video"]] == row["shown_exercise"] != row["exercise"] == exercises[row["video"]]
        assert row["group"] == row["video"]
    for sample, row in zip(tiny.samples, rows, strict=True):
        scores = tiny.store.read_scores(sample["features"])
        assert row["frames"]["scores"] == pytest.approx(scores.tolist(), abs=1e-3)
        highest = {*(scores[:8].topk(4).indices).tolist(), *(scores[8:].topk(4).indices + 8).tolist()}
        assert row["frames"]["chosen"] == sorted(highest)
    assert metrics["conclusion"] == conclude(rows, tiny.samples).to_json()


def test_a_test_split_of_one_exercise_has_no_control_and_is_scored_all_the_same(model, tiny):
    samples = [sample | {"exercise": "squats", "group": "me"} for sample in tiny.samples]
    metrics, rows = evaluated(model, tiny, samples)
    assert metrics["mismatched_video"] is None and metrics["conclusion"]["looks"] is None
    assert "one exercise in the test split" in metrics["conclusion"]["headline"]
    assert {row["shown_video"] for row in rows} == {row["mismatched_video"] for row in rows} == {None}
    assert metrics["finetuned"]["groups"] == 1


def test_an_empty_test_split_is_an_error(model, tiny):
    with pytest.raises(InputError, match="test split is empty"):
        evaluated(model, tiny, [])


def ending(ids):
    return lambda **inputs: torch.tensor([ids] * len(inputs["input_ids"]))


def test_an_answer_without_an_end_is_cut_and_counted(model, tiny, monkeypatch):
    end = tiny.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    monkeypatch.setattr(model, "generate", ending([65, 66, 67]))
    arguments = (model, tiny.processor, [tiny.samples[:1]], tiny.store)
    ((answer,),) = predict(*arguments, max_new_tokens=3)
    assert (answer.cut, answer.tokens) == (True, 3)
    monkeypatch.setattr(model, "generate", ending([65, end, end]))
    ((answer,),) = predict(*arguments, max_new_tokens=3)
    assert (answer.cut, answer.tokens) == (False, 2)


def test_cut_answers_are_in_the_rows_and_the_metrics(model, tiny):
    metrics, rows = evaluated(model, tiny, max_new_tokens=1)
    for name in ("base", "finetuned", "mismatched_video"):
        cut = [row["cut"][name] for row in rows]
        assert metrics[name]["cut"] == pytest.approx(sum(cut) / 3)
    assert any(row["cut"]["base"] for row in rows)


def test_an_answer_may_be_longer_than_the_longest_reference(tiny):
    long = tiny.samples[0] | {
        "conversations": [tiny.samples[0]["conversations"][0], {"from": "gpt", "value": "x" * 200}]
    }
    assert answer_limit(tiny.processor, tiny.samples) == 64
    assert 201 < answer_limit(tiny.processor, [*tiny.samples, long]) <= 260


def test_an_answer_ends_with_its_turn_whatever_the_checkpoint_says(model, tiny, monkeypatch):
    end = tiny.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    seen = []
    monkeypatch.setattr(model, "generate", lambda **inputs: seen.append(inputs) or torch.tensor([[0]] * 3))
    answers(model, tiny)
    assert end in seen[0]["eos_token_id"]


def test_the_script_writes_metrics_and_a_line_a_sample(run_script, tiny, tmp_path):
    write_json(tiny.samples, tmp_path / "test.json")
    output = {"metrics": tmp_path / "metrics.json", "predictions": tmp_path / "predictions.jsonl"}
    output["table"] = tmp_path / "predictions.csv"
    params = {"store": tiny.store.folder, "uncached": None, "seed": 1, "batch_size": 2, "max_new_tokens": 4}
    test = tmp_path / "test.json"
    run_script("evaluate.py", params, output, test=test, train_samples=test)
    metrics = json.loads(output["metrics"].read_text())
    assert metrics["finetuned"]["n"] == 3
    assert metrics["settings"]["prompt_names_exercise"] is False
    assert metrics["settings"]["max_new_tokens"] == 4
    rows = [json.loads(line) for line in output["predictions"].read_text().splitlines()]
    assert [row["video"] for row in rows] == [sample["video"] for sample in tiny.samples]
    with open(output["table"], encoding="utf-8", newline="") as file:
        assert [line["finetuned"] for line in csv.DictReader(file)] == [row["finetuned"] for row in rows]
    run_script(
        "evaluate.py", params | {"max_new_tokens": "auto"}, output, test=test, train_samples=test, val_samples=test
    )
    assert json.loads(output["metrics"].read_text())["settings"]["max_new_tokens"] == 64
