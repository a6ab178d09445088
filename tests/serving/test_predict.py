"""Answers about one video file, with a tiny random model."""

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.files import write_json
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.serving.predict import predict_clip


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
    write_json({"squats/1.mp4": "squats", "lunges/1.mp4": "lunges"}, tmp_path / "manifest.json")
    capsys.readouterr()
    run_script("infer.py", params)
    said = capsys.readouterr()
    assert said.out == f"{expected}\n" and "the prompt names" not in said.err
    write_json({"lunges/1.mp4": "lunges"}, tmp_path / "manifest.json")
    run_script("infer.py", params)
    said = capsys.readouterr()
    assert said.out == f"{expected}\n" and "the prompt names the exercise 'squats' after the clip's folder" in said.err
    run_script("infer.py", params | {"exercise": "squats"})
    assert "the prompt names" not in capsys.readouterr().err
