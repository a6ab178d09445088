"""Answers about clips, with a tiny random model."""

import pytest
import torch

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.serving.finetuned import Finetuned, find_finetuned
from mobilevideogpt.serving.pipeline import Pipeline
from mobilevideogpt.video.frames import clip_frames

PROMPT = "<video>\nAnalyze this squats video."


@pytest.fixture
def clip(project):
    return str(project / "dataset/squats/1.mp4")


def test_a_clip_is_answered_from_its_pixels_as_from_its_features(pipeline, tiny, clip):
    model = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    video, context = model.base_model.model.encode_video(**pixels)
    tiny.store.write("f" * 64, {"video_features": video[0].detach(), "context_features": context[0].detach()})
    sample = tiny.samples[0] | {"features": "f" * 64}
    sample["conversations"] = [{"from": "human", "value": PROMPT}, sample["conversations"][1]]
    ((answer,),) = predict(model, tiny.processor, [[sample]], tiny.store, max_new_tokens=8)
    assert pipeline(clip, exercise="squats", max_new_tokens=8) == answer.text != ""
    seen = pipeline.see([clip_frames(clip, None, *pipeline.bounds)])[0]
    assert "".join(pipeline.stream(seen, PROMPT, 8)).strip() == answer.text


def test_a_list_is_answered_in_order_and_a_faulty_clip_stops_no_other(pipeline, project):
    (project / "dataset/squats/broken.mp4").write_text("no video")
    clips = [f"dataset/squats/{name}.mp4" for name in ("2", "broken", "1")]
    options = {"exercise": "squats", "max_new_tokens": 8}
    found = list(pipeline.predict(clips, batch_size=2, with_pictures=True, **options))
    assert [prediction.video for prediction in found] == clips
    assert found[1].answer is None and "broken.mp4: does not decode" in found[1].error
    assert "manifest" not in found[1].error
    assert [found[0].answer, found[2].answer] == pipeline([clips[0], clips[2]], **options)
    assert len(found[0].pictures) == 16 and sum(picture.chosen for picture in found[0].pictures) == 8
    assert found[0].to_json().keys() == {"video", "prompt", "answer", "cut"} and found[1].to_json()["error"]
    with pytest.raises(InputError, match=r"broken\.mp4: does not decode"):
        pipeline(clips[1], exercise="squats")


def test_the_base_answers_within_a_block_and_the_adapter_after_it(pipeline, tiny, clip):
    frames = clip_frames(clip, None, *pipeline.bounds)

    def answer(pipeline):
        return "".join(pipeline.stream(pipeline.see([frames])[0], PROMPT, 12))

    before = answer(pipeline)
    with pipeline.as_base() as possible:
        of_base = answer(pipeline)
    plain = Pipeline(Finetuned("base", tiny.paths))
    assert possible and of_base == answer(plain) != before == answer(pipeline)
    with plain.as_base() as possible:
        assert not possible


def test_a_language_model_in_half_precision_sees_the_same_and_answers(made, pipeline, clip):
    half = Pipeline(find_finetuned(made / "results/tiny"), "bf16")
    assert half.model.get_input_embeddings().weight.dtype == torch.bfloat16
    with half.as_base() as possible:
        assert not possible, "the adapter is merged"
    frames = [clip_frames(clip, None, *half.bounds)]
    for name, features in half.see(frames)[0].features.items():
        assert torch.equal(features, pipeline.see(frames)[0].features[name])
    assert half(clip, exercise="squats", max_new_tokens=8)
    merged, options = Pipeline(find_finetuned(made / "results/tiny"), "fp32"), {"exercise": "squats"}
    assert merged(clip, max_new_tokens=8, **options) == pipeline(clip, max_new_tokens=8, **options)


def test_the_encoders_see_a_file_in_float32_whatever_the_base_is(pipeline, tiny, clip, monkeypatch):
    half = MobileVideoGPTForConditionalGeneration.from_pretrained(tiny.paths.base, dtype=torch.bfloat16).eval()
    monkeypatch.setattr(pipeline, "model", half)
    [seen] = pipeline.see([clip_frames(clip, None, *pipeline.bounds)])
    pixels = {name: tensor[None] for name, tensor in tiny.processor.encode_video(clip).items()}
    for name, expected in zip(("video_features", "context_features"), half.encode_video(**pixels), strict=True):
        assert torch.equal(seen.features[name], expected[0]) and seen.features[name].dtype == torch.float32
