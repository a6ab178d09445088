"""Answers decoded with a cache of fixed length, as captured, are those decoded with a growing one."""

import pytest
import torch

from mobilevideogpt.model import decoding_graphs
from mobilevideogpt.model.decoding_graphs import DecodingGraphs
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from tests.tiny import tiny_config

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=on_gpu)])
def model(request):
    torch.manual_seed(0)
    config = tiny_config(initializer_range=0.5)
    return MobileVideoGPTForConditionalGeneration(config).eval().to(request.param)


def generated(model, lengths, graphs=None, new_tokens=12, seed=0):
    """Generate after random prompts of these lengths, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 30, (len(lengths), max(lengths)), generator=generator)
    mask = torch.tensor([[0] * (max(lengths) - n) + [1] * n for n in lengths])
    with torch.inference_mode():
        return model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            past_key_values=graphs and graphs.cache(model.config, new_tokens),
        ).tolist()


def test_padded_prompts_are_answered_alike(model):
    expected = generated(model, [9, 4, 7])
    assert len({tuple(row) for row in expected}) > 1  # else this test shows nothing
    assert generated(model, [9, 4, 7], DecodingGraphs()) == expected


def test_a_cache_is_used_again_for_other_prompts_and_batches(model):
    graphs = DecodingGraphs()
    for seed, lengths in enumerate(([9, 4, 7], [3, 11, 2], [5], [9, 4, 7], [8, 8, 8])):
        assert generated(model, lengths, graphs, seed=seed) == generated(model, lengths, seed=seed)
    assert len(graphs.passes) == 2  # for three clips and for one


def test_a_longer_answer_gets_a_longer_cache(model, monkeypatch):
    monkeypatch.setattr(decoding_graphs, "LENGTH_MULTIPLE", 16)
    graphs = DecodingGraphs()
    for tokens in (3, 20):
        assert generated(model, [4], graphs, new_tokens=tokens) == generated(model, [4], new_tokens=tokens)
    assert [length for _, length in graphs.passes] == [16, 32]
