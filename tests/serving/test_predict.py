"""Answers about one video file, with a tiny random model."""

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.serving.predict import predict_clip, prompt_for_clip


@pytest.fixture
def model(tiny):
    return load_for_inference(tiny.paths)


def test_one_file_is_answered_from_its_pixels_as_from_its_features(model, tiny, draw_clip, tmp_path):
    clip = tmp_path / "clip.mp4"
    draw_clip(clip)
    prompt = "<video>\nWhat do you see?"
    direct = predict_clip(model, tiny.processor, clip, prompt, max_new_tokens=8)
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    video, context = model.encode_video(**pixels)
    tiny.store.write("f" * 64, {"video_features": video[0].detach(), "context_features": context[0].detach()})
    sample = tiny.samples[0] | {"features": "f" * 64}
    (answer,) = predict(model, tiny.processor, [sample], tiny.store, batch_size=1, max_new_tokens=8)
    assert direct == answer.text


def test_the_encoders_see_a_file_in_float32_whatever_the_base_is(tiny, draw_clip, tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    draw_clip(clip)
    half = MobileVideoGPTForConditionalGeneration.from_pretrained(tiny.paths.base, dtype=torch.bfloat16).eval()
    seen = []
    monkeypatch.setattr(half, "generate", lambda **inputs: seen.append(inputs) or torch.tensor([[0]]))
    predict_clip(half, tiny.processor, clip, "Go.", max_new_tokens=1)
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    for name, expected in zip(("video_features", "context_features"), half.encode_video(**pixels), strict=True):
        assert torch.equal(seen[0][name], expected)


def test_a_file_that_is_not_there_is_named(model, tiny):
    with pytest.raises(InputError, match=r"gone\.mp4: there is no such clip"):
        predict_clip(model, tiny.processor, "gone.mp4", "Go.", max_new_tokens=8)


def test_the_script_prints_the_answer_alone(run_script, tiny, draw_clip, tmp_path, capsys):
    clip = tmp_path / "squats" / "clip.mp4"
    draw_clip(clip)
    model = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    expected = predict_clip(model, tiny.processor, clip, "Analyze this squats video.", max_new_tokens=4)
    params = {"exercise": None, "prompt": "Analyze this {exercise} video.", "max_new_tokens": 4}
    params |= {"video": str(clip), "data_root": str(tmp_path)}
    write_json({"squats/clip.mp4": "squats"}, tmp_path / "manifest.json")
    capsys.readouterr()
    run_script("infer.py", params)
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.fixture
def data(tmp_path):
    """A data set whose folder names no exercise."""
    write_json({"short_clips/1.mp4": "squats", "short_clips/2.mp4": "lunges"}, tmp_path / "data/manifest.json")
    return str(tmp_path / "data")


def ask(video, data, exercise=None):
    return prompt_for_clip(video, "Analyze this {exercise} video.", data, exercise)


def test_the_prompt_names_the_exercise_of_the_manifest(data, tmp_path):
    assert ask(f"{data}/short_clips/2.mp4", data) == "<video>\nAnalyze this lunges video."
    (tmp_path / "link.mp4").symlink_to(f"{data}/short_clips/1.mp4")
    assert "squats" in ask(tmp_path / "link.mp4", data)
    assert "plank" in ask(f"{data}/short_clips/2.mp4", data, exercise="plank")


def test_a_folder_names_the_exercise_only_where_the_data_set_has_it(data, tmp_path, caplog):
    assert "squats" in ask(tmp_path / "squats/new.mp4", data)
    assert "'squats', is the name of the clip's folder" in caplog.text
    with pytest.raises(
        InputError, match=r"new\.mp4: the prompt names the exercise.*exercise=\.\.\.`, as in lunges, squats"
    ):
        ask(tmp_path / "phone/new.mp4", data)
    assert prompt_for_clip("phone/new.mp4", "What do you see?", "nowhere") == "<video>\nWhat do you see?"
