"""Greedy answers of a model to prompts about clips."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from transformers.generation.streamers import BaseStreamer

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.decoding_graphs import DecodingGraphs, decoding_graphs
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

ROOM = 1.25  # tokens of an answer, as a multiple of the longest reference
LEAST = 64  # tokens that an answer may have in any case


class Answer(NamedTuple):
    """A generated answer.

    Attributes:
        text: Stripped of surrounding white space.
        cut: Whether it reached the limit before it ended.
        tokens: Its length, with the token that ends it.
    """

    text: str
    cut: bool
    tokens: int


def answer_limit(processor, samples: Sequence[Mapping]) -> int:
    """Longest answer to allow, in tokens: a quarter more than the longest response of the samples, and at least 64."""
    responses = [prompt_and_response(sample)[1] for sample in samples]
    longest = max((len(ids) for ids in processor.tokenizer(responses)["input_ids"]), default=0) if responses else 0
    return max(LEAST, math.ceil(ROOM * (longest + 1)))  # and the token that ends it


def load_for_inference(
    paths: ModelPaths, *, precision: str = "fp32", on_cpu: str = "fp32", device: str | None = None
) -> MobileVideoGPTForConditionalGeneration:
    """Load the base onto a GPU in the precision of the training, or without a GPU onto the CPU in float32.

    Args:
        paths: The base and its encoders, which stay in float32.
        precision: ``bf16``, ``fp16`` or ``fp32``; of a GPU.
        on_cpu: Likewise, of a CPU.
        device: Such as ``cuda:1``; the current GPU if there is one, by default.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[on_cpu if device == "cpu" else precision]
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(paths.base, **paths.encoders, dtype=dtype)
    model.set_encoder_precision("auto")  # the default of features.precision; `UncachedFeatures` sets the chosen one
    return model.to(device).eval()  # type: ignore  (transformers wraps `to` without its signature)


@torch.inference_mode()
def generate_answers(
    model,
    processor,
    prompts: Sequence[str],
    features: Sequence[Mapping[str, Tensor]],
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
    graphs: DecodingGraphs | None = None,
) -> list[Answer]:
    """Answer a batch of prompts greedily.

    Args:
        model: With or without an adapter.
        processor: Builds the prompt as in training.
        prompts: One prompt for each clip.
        features: ``video_features`` and ``context_features`` of each clip, as `FeatureStore.read` returns them.
        max_new_tokens: Longest answer, in tokens.
        streamer: Receives the tokens of a single prompt as they come.
        graphs: Those of the model, with the adapter that it has; see `decoding_graphs`.

    Returns:
        The answers, each with whether it was cut at ``max_new_tokens``.
    """
    rows = [
        {"input_ids": processor.encode_text(prompt)["input_ids"], **tensors}
        for prompt, tensors in zip(prompts, features, strict=True)
    ]
    inputs = {name: value.to(model.device) for name, value in processor.pad(rows, padding_side="left").items()}
    dtype = model.get_input_embeddings().weight.dtype
    # An answer ends with its turn; the checkpoint's own settings for end tokens and sampling are overridden.
    ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    # The weights of an adapter stay float32 beside a half-precision base, in training under autocast too.
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        ids = model.generate(  # (B, new tokens)
            **inputs,
            eos_token_id=ends,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            streamer=streamer,
            past_key_values=graphs and graphs.cache(model.config, max_new_tokens),
        )
    texts = processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [Answer(text.strip(), *_length(row, ends)) for text, row in zip(texts, ids.tolist(), strict=True)]


def _length(ids: Sequence[int], ends: Sequence[int]) -> tuple[bool, int]:
    """Whether an answer has no end, and its number of tokens; after the end of an answer there is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), None)
    return (True, len(ids)) if end is None else (False, end + 1)


def predict(
    model,
    processor,
    batches: Sequence[Sequence[Mapping]],
    store: FeatureStore,
    *,
    max_new_tokens: int,
    progress: str | None = None,
) -> list[list[Answer]]:
    """Answer the prompt of each sample for its clip, greedily.

    Args:
        model: With or without an adapter.
        processor: Builds the prompt as in training.
        batches: Samples that are answered together; shorter ones are padded on the left. The response turn is not
            read; ``features`` is the key of the clip's features in ``store``.
        store: The features.
        max_new_tokens: Longest answer, in tokens.
        progress: Name of a progress bar, shown on a terminal only; no bar by default.

    Returns:
        The answers in the order of the samples.

    Raises:
        InputError: If a sample is malformed or a clip has no features.
    """
    if missing := sorted({sample["video"] for batch in batches for sample in batch if "features" not in sample}):
        raise InputError(
            f"{missing[0]}: no features were computed ({len(missing)} such clips); run `snakemake verify` to see why"
        )
    model.eval()
    answers, graphs = [], decoding_graphs(model)
    total = sum(map(len, batches))
    with tqdm(total=total, desc=progress, unit="clip", disable=None if progress else True) as bar:
        for batch in batches:
            prompts = [prompt_and_response(sample)[0] for sample in batch]
            features = [store.read(sample["features"]) for sample in batch]
            answers.append(generate_answers(model, processor, prompts, features, max_new_tokens, graphs=graphs))
            bar.update(len(batch))
    return answers
