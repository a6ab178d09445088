"""Greedy answers of a model, from cached features or from a clip's pixels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore, encode
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


def load_for_inference(
    base: str | Path,
    video_encoder: str | Path | None = None,
    image_encoder: str | Path | None = None,
    *,
    precision: str = "fp32",
) -> MobileVideoGPTForConditionalGeneration:
    """Load the base onto the GPU in the precision of the training, or without a GPU onto the CPU in float32.

    Args:
        base: Folder of the base checkpoint.
        video_encoder: VideoMamba's ``.pth``, if the base does not hold it.
        image_encoder: CLIP's folder, likewise.
        precision: ``bf16``, ``fp16`` or ``fp32``.
    """
    device, dtype = ("cuda", DTYPES[precision]) if torch.cuda.is_available() else ("cpu", torch.float32)
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(
        base, video_encoder=video_encoder, image_encoder=image_encoder, dtype=dtype
    )
    return model.to(device).eval()


@torch.inference_mode()
def _answer(model, processor, features: list[dict], max_new_tokens: int) -> list[str]:
    inputs = {name: value.to(model.device) for name, value in processor.pad(features, padding_side="left").items()}
    dtype = model.get_input_embeddings().weight.dtype
    # An answer ends with its turn, whatever the checkpoint's own settings say of ends and of sampling.
    ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    # An adapter's weights are float32 beside a half-precision base, in training under autocast, too.
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
    records: Sequence[dict],
    features: Mapping[str, str],
    store: FeatureStore,
    *,
    batch_size: int,
    max_new_tokens: int,
    device: torch.device | str | None = None,
    progress: str | None = None,
) -> list[str]:
    """Answer each record's prompt for its ``video``, greedily.

    Args:
        model: With or without an adapter.
        processor: Builds the prompt as in training.
        records: Annotations; the answer turn is not looked at.
        features: Key of the cached features of each clip path.
        store: Where the features lie.
        batch_size: Records answered at once; padded on the left.
        max_new_tokens: Longest answer, in tokens.
        device: Moves the model there first.
        progress: Name of the progress bar on stderr, shown on a terminal; none if left out.

    Returns:
        The answers in the order of the records, without white space around them.

    Raises:
        InputError: If a clip has no features or a record is malformed.
    """
    if missing := sorted({record["video"] for record in records} - features.keys()):
        raise InputError(
            f"{missing[0]}: no features were computed ({len(missing)} such clips); run `snakemake verify` to see why"
        )
    if device is not None:
        model.to(device)
    model.eval()
    answers = []
    with tqdm(total=len(records), desc=progress, unit="clip", disable=None if progress else True) as bar:
        for start in range(0, len(records), batch_size):
            batch = [
                _prompt(processor, prompt_and_response(record)[0]) | store.read(features[record["video"]])
                for record in records[start : start + batch_size]
            ]
            answers += _answer(model, processor, batch, max_new_tokens)
            bar.update(len(batch))
    return answers


def predict_clip(model, processor, path: str | Path, prompt: str, *, max_new_tokens: int) -> str:
    """Answer ``prompt`` for one video file. Its features are computed as for training: in float32, without autocast.

    Raises:
        InputError: If there is no such file, or it cannot be decoded.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such clip; check the path given with `--config video=...`")
    model.eval()
    features = encode(model, [processor.encode_video(path)], model.device, torch.float32)
    row = {name: tensor[0] for name, tensor in features.items()}
    return _answer(model, processor, [_prompt(processor, prompt) | row], max_new_tokens)[0]


def _prompt(processor, prompt: str) -> dict[str, list[int]]:
    return {"input_ids": processor.encode_text(prompt)["input_ids"]}
