import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, set_seed
from transformers.utils import is_flash_attn_2_available

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.model.selection import frame_scores, select_frames


@pytest.fixture
def varied(tiny):
    """Answers that depend on every token before them: attention that is not nearly even."""
    with torch.no_grad():
        for layer in tiny.model.layers:
            for name in ("q_proj", "k_proj", "o_proj"):
                getattr(layer.self_attn, name).weight.mul_(4)
        tiny.model.embed_tokens.weight.mul_(8)
    return tiny


def pixels(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 16, 3, 224, 224, generator=generator) for _ in range(2)]


def test_left_padded_prompts_generate_what_they_generate_alone(varied, batch):
    together = varied.generate(**batch, max_new_tokens=8, do_sample=False)
    for row, expected in enumerate(together):
        start = int((batch["attention_mask"][row] == 0).sum())
        alone = {k: v[row : row + 1, start:] if v.dim() == 2 else v[row : row + 1] for k, v in batch.items()}
        assert varied.generate(**alone, max_new_tokens=8, do_sample=False)[0].tolist() == expected.tolist()
    assert together[0].tolist() != together[1].tolist()


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_each_way_to_generate_gives_a_prompt_in_a_batch_the_tokens_it_gets_alone(varied, batch, options):
    video = batch["input_ids"][1, 1:-5]
    rows = [torch.cat([torch.tensor([7]), video, torch.tensor(text)]) for text in ([9], [1, 2, 3, 4], [5] * 11)]
    lengths = [len(row) for row in rows]
    features = {k: batch[k][[0, 1, 1]] for k in ("video_features", "context_features")}
    together = {
        "input_ids": torch.stack([F.pad(row, (max(lengths) - len(row), 0)) for row in rows]),
        "attention_mask": torch.stack([F.pad(torch.ones(n), (max(lengths) - n, 0)).long() for n in lengths]),
    }
    new = varied.generate(**together, **features, **options, max_new_tokens=6, do_sample=False)
    plain = {"num_beams": options.get("num_beams", 1), "max_new_tokens": 6, "do_sample": False}
    for row, ids in enumerate(rows):
        own = {k: t[row : row + 1] for k, t in features.items()}
        assert varied.generate(ids[None], **own, **plain)[0].tolist() == new[row].tolist()
    assert len({tuple(row) for row in new.tolist()}) == 3


def test_sampling_and_several_answers_to_a_prompt_work(tiny, batch):
    set_seed(0)
    out = tiny.generate(
        **batch, max_new_tokens=3, do_sample=True, temperature=1.5, top_p=0.9, top_k=20, num_return_sequences=2,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    assert out.sequences.shape == (4, 3) and len(out.scores) == 3


def test_generation_returns_new_ids_alone_and_goes_on_where_a_forward_pass_would(tiny, batch):
    new = tiny.generate(**batch, max_new_tokens=4, do_sample=False)
    assert new.shape == (2, 4)
    ids = torch.cat([batch["input_ids"], new], dim=1)
    mask = F.pad(batch["attention_mask"], (0, 4), value=1)
    with torch.no_grad():
        logits = tiny(**(batch | {"input_ids": ids, "attention_mask": mask}), logits_to_keep=5).logits
    assert logits[:, :4].argmax(-1).tolist() == new.tolist()


def test_the_loss_counts_supervised_positions_only_and_is_that_of_all_logits(tiny, labelled):
    with torch.no_grad():
        out = tiny(**labelled)
        logits = tiny(**{k: v for k, v in labelled.items() if k != "labels"}).logits
    assert logits.shape[1] == labelled["input_ids"].shape[1]
    assert out.logits.shape[1] == 3
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labelled["labels"][:, 1:].flatten())
    torch.testing.assert_close(out.loss, expected)


def test_a_loss_over_accumulated_batches_is_divided_by_their_number_of_labels(tiny, labelled):
    with torch.no_grad():
        mean = tiny(**labelled).loss
        torch.testing.assert_close(tiny(**labelled, num_items_in_batch=10).loss, mean * 5 / 10)
        torch.testing.assert_close(tiny(**labelled, num_items_in_batch=torch.tensor(10)).loss, mean * 5 / 10)


def test_asked_for_the_last_logits_it_gives_these_and_their_loss(tiny, labelled):
    with torch.no_grad():
        out = tiny(**labelled, logits_to_keep=3)
        logits = tiny(**labelled, logits_to_keep=labelled["input_ids"].shape[1]).logits
    torch.testing.assert_close(out.logits, logits[:, -3:])
    torch.testing.assert_close(
        out.loss, F.cross_entropy(logits[:, -3:-1].flatten(0, 1), labelled["labels"][:, -2:].flatten())
    )


def test_logits_are_kept_by_number_position_or_mask(tiny, batch):
    with torch.no_grad():
        logits = tiny(**batch).logits
        length = logits.shape[1]
        for keep in (torch.tensor([4, length - 1]), torch.arange(length) % 1000 == 3):
            torch.testing.assert_close(tiny(**batch, logits_to_keep=keep).logits, logits[:, keep])


def test_the_usual_arguments_mean_what_they_mean_in_transformers(tiny, batch):
    text = {k: batch[k] for k in ("input_ids", "attention_mask")}
    features = {k: batch[k] for k in ("video_features", "context_features")}
    mask = batch["attention_mask"]
    with torch.no_grad():
        out = tiny(**batch, output_hidden_states=True, use_cache=False)
        assert len(out.hidden_states) == 3 and out.past_key_values is None
        logits, cache = tiny(**batch, return_dict=False)
        assert torch.equal(logits, out.logits) and cache.get_seq_length() == logits.shape[1]
        embeds = tiny.embed(text["input_ids"], **features)
        again = tiny(inputs_embeds=embeds, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
        assert torch.equal(again[mask.bool()], logits[mask.bool()])
        for wrong in ({}, {"input_ids": text["input_ids"], "inputs_embeds": embeds}):
            with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
                tiny(**wrong)


def test_no_token_sees_what_the_mask_hides(varied, batch):
    ids = batch["input_ids"].clone()
    hidden = torch.ones_like(ids)
    hidden[:, 100:200] = 0  # a gap, behind which tokens are seen again
    features = {k: batch[k] for k in ("video_features", "context_features")}
    with torch.no_grad():
        embeds = varied.embed(ids, **features)
        logits = varied(inputs_embeds=embeds, attention_mask=hidden).logits[:, -1]
        embeds[:, 100:200] = 5
        torch.testing.assert_close(varied(inputs_embeds=embeds, attention_mask=hidden).logits[:, -1], logits)
        assert (varied(inputs_embeds=embeds).logits[:, -1] - logits).abs().max() > 1e-2


def test_gradient_checkpointing_changes_no_gradient(tiny, labelled):
    tiny.train()
    tiny(**labelled).loss.backward()
    expected = {n: p.grad.clone() for n, p in tiny.named_parameters() if p.grad is not None}
    tiny.zero_grad()
    tiny.gradient_checkpointing_enable({"use_reentrant": False})
    tiny(**labelled).loss.backward()
    for name, parameter in tiny.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.pop(name), msg=name)
    assert not expected


def test_videos_and_placeholders_that_do_not_match_are_refused(tiny, batch):
    with pytest.raises(ValueError, match="2402"):
        tiny(**(batch | {"video_features": batch["video_features"][:1]}))
    with pytest.raises(ValueError, match="4804"):
        tiny(batch["input_ids"])
    with pytest.raises(ValueError, match="give input_ids"):
        tiny.generate(video_features=batch["video_features"], context_features=batch["context_features"])


def test_half_a_video_is_refused(tiny, batch):
    video, context = pixels()
    ids = batch["input_ids"]
    with pytest.raises(ValueError, match="both video_features and context_features"):
        tiny(ids, video_features=batch["video_features"])
    with pytest.raises(ValueError, match="pixel_values_context is missing"):
        tiny(ids, pixel_values_videos=video)
    with pytest.raises(ValueError, match=r"pixel_values_videos is of shape \(2, 8, 3, 224, 224\); give pixels"):
        tiny.encode_video(video[:, :8], context[:, :8])


def test_pixels_and_the_features_of_them_give_the_same(tiny, batch):
    video, context = pixels()
    text = {k: batch[k] for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        from_pixels = tiny(**text, pixel_values_videos=video, pixel_values_context=context, logits_to_keep=1).logits
        features = dict(zip(("video_features", "context_features"), tiny.encode_video(video, context), strict=True))
        torch.testing.assert_close(tiny(**text, **features, logits_to_keep=1).logits, from_pixels)


def test_encoding_records_no_graph_and_no_clip_sees_another(tiny):
    video, context = pixels()
    together = tiny.encode_video(video, context)
    assert not any(t.requires_grad for t in together)
    for row in range(2):
        alone = tiny.encode_video(video[row : row + 1], context[row : row + 1])
        for a, t in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], t[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_the_encoders_stay_in_float32_and_all_runs(tiny, tmp_path, labelled, dtype):
    tiny.save_pretrained(tmp_path)
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    by_room = {}
    for name, parameter in model.named_parameters():
        by_room.setdefault("vision_tower" in name, set()).add(parameter.dtype)
    assert by_room == {True: {torch.float32}, False: {dtype}}
    with torch.no_grad():
        torch.testing.assert_close(model(**labelled).loss.float(), tiny(**labelled).loss, atol=0.1, rtol=0.05)
        assert all(t.isfinite().all() for t in model.encode_video(*pixels(1)))
    assert model.generate(**{k: v for k, v in labelled.items() if k != "labels"}, max_new_tokens=2).shape == (2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_casts_of_the_whole_model_leave_the_frozen_encoders_usable(tiny, dtype):
    video, context = pixels(1)
    expected = tiny.encode_video(video, context)
    with torch.autocast("cpu", dtype):
        assert all(torch.equal(t, e) for t, e in zip(tiny.encode_video(video, context), expected, strict=True))
    video, context = tiny.to(dtype).encode_video(video, context)
    assert video.dtype == context.dtype == dtype  # a cast by hand, as DeepSpeed's, is obeyed
    assert video.isfinite().all()  # of other frames, perhaps: the scores of noise are near each other
    torch.testing.assert_close(context.float(), expected[1], atol=0.1, rtol=0.1)


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, "split"])
def test_a_device_map_places_it(tiny, batch, tmp_path, device_map):
    tiny.save_pretrained(tmp_path / "model")
    if device_map == "split":
        device_map = {f"model.{name}": "cpu" for name, _ in tiny.model.named_children()} | {"lm_head": "cpu"}
        del device_map["model.layers"]
        device_map |= {"model.layers.0": "cpu", "model.layers.1": "disk", "model.mm_projector": "disk"}
        device_map["model.vision_tower"] = "disk"
    load = MobileVideoGPTForConditionalGeneration.from_pretrained
    model = load(tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload")
    device = "cuda" if device_map == "auto" and torch.cuda.is_available() else "cpu"
    expected = tiny.generate(**batch, max_new_tokens=3, do_sample=False)
    there = {name: value.to(device) for name, value in batch.items()}
    assert torch.equal(model.generate(**there, max_new_tokens=3, do_sample=False).cpu(), expected)
    encoded = model.encode_video(*(frames.to(device) for frames in pixels(1)))
    for ours, theirs in zip(encoded, tiny.encode_video(*pixels(1)), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=0 if device == "cpu" else 1e-4)


def test_attention_is_what_was_asked_for_or_an_error(tiny, batch, tmp_path):
    tiny.save_pretrained(tmp_path)
    load = MobileVideoGPTForConditionalGeneration.from_pretrained
    eager = load(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        out = eager(**batch, logits_to_keep=1, output_attentions=True)
        torch.testing.assert_close(out.logits, tiny(**batch, logits_to_keep=1).logits, atol=1e-4, rtol=1e-4)
    assert len(out.attentions) == 2 and out.attentions[0].shape[-1] == batch["input_ids"].shape[1]
    # Whatever the language model uses, the context encoder is in float32, which flash attention does not take.
    assert eager.config.clip_config._attn_implementation == "sdpa"
    if not is_flash_attn_2_available():
        with pytest.raises(ImportError, match="FlashAttention2"):
            load(tmp_path, attn_implementation="flash_attention_2")


def test_the_auto_classes_know_it(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(tiny.config)
    for auto_class in (AutoModelForImageTextToText, AutoModelForCausalLM):
        model = auto_class.from_pretrained(tmp_path, device_map="cpu")
        assert type(model) is type(tiny)
    assert model.config._attn_implementation == "sdpa"


def test_scores_are_summed_in_float32_whatever_the_features_are():
    features = torch.randn(2, 8, 196, 32).bfloat16()
    scores = frame_scores(features)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.sum(-1), torch.full((2,), 8 * 196.0))
    torch.testing.assert_close(scores, frame_scores(features.float()))


def test_chosen_frames_are_in_order_of_time():
    scores = torch.tensor([[1.0, 9, 3, 8, 2, 7, 4, 6]])
    assert select_frames(scores, 4).tolist() == [[1, 3, 5, 7]]
    assert select_frames(scores, 4, highest=False).tolist() == [[0, 2, 4, 6]]
