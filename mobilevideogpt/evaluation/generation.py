"""Greedy answers of a model to prompts about clips."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


def load_for_inference(paths: ModelPaths, *, precision: str = "fp32") -> MobileVideoGPTForConditionalGeneration:
    """Load the base onto the GPU in the precision of the training, or without a GPU onto the CPU in float32.

    Args:
        paths: The base and its encoders.
        precision: ``bf16``, ``fp16`` or ``fp32``.
    """
    device, dtype = ("cuda", DTYPES[precision]) if torch.cuda.is_available() else ("cpu", torch.float32)
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(paths.base, **paths.encoders, dtype=dtype)
    return model.to(device).eval()  # type: ignore  (transformers wraps `to` without its signature)


@torch.inference_mode()
def generate_answers(
    model, processor, prompts: Sequence[str], features: Sequence[Mapping[str, Tensor]], max_new_tokens: int
) -> list[str]:
    """Answer a batch of prompts greedily.

    Args:
        model: With or without an adapter.
        processor: Builds the prompt as in training.
        prompts: One prompt for each clip.
        features: ``video_features`` and ``context_features`` of each clip, as `FeatureStore.read` returns them.
        max_new_tokens: Longest answer, in tokens.

    Returns:
        The answers, stripped of surrounding white space.
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
        )
    return [text.strip() for text in processor.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def predict(
    model,
    processor,
    samples: Sequence[Mapping],
    store: FeatureStore,
    *,
    batch_size: int,
    max_new_tokens: int,
    progress: str | None = None,
) -> list[str]:
    """Answer the prompt of each sample for its clip, greedily.

    Args:
        model: With or without an adapter.
        processor: Builds the prompt as in training.
        samples: The response turn is not read; ``features`` is the key of the clip's features in ``store``.
        store: The cached features.
        batch_size: Samples in a batch; shorter ones are padded on the left.
        max_new_tokens: Longest answer, in tokens.
        progress: Name of a progress bar, shown on a terminal only; no bar by default.

    Returns:
        The answers in the order of the samples, stripped of surrounding white space.

    Raises:
        InputError: If a sample is malformed or a clip has no features.
    """
    if missing := sorted({sample["video"] for sample in samples if "features" not in sample}):
        raise InputError(
            f"{missing[0]}: no features were computed ({len(missing)} such clips); run `snakemake verify` to see why"
        )
    model.eval()
    answers = []
    with tqdm(total=len(samples), desc=progress, unit="clip", disable=None if progress else True) as bar:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            prompts = [prompt_and_response(sample)[0] for sample in batch]
            features = [store.read(sample["features"]) for sample in batch]
            answers += generate_answers(model, processor, prompts, features, max_new_tokens)
            bar.update(len(batch))
    return answers
