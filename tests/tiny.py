"""Tiny models for tests: one configuration, one tokenizer of bytes, and random features."""

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel

from mobilevideogpt import MobileVideoGPTConfig, MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import SUPERVISED
from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK

PAD, EOS = "<|endoftext|>", "<|im_end|>"
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "video_hidden_size": 16,
    "video_num_layers": 1,
    "image_hidden_size": 32,
    "image_intermediate_size": 32,
    "image_num_layers": 2,
    "image_num_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 62,
    "video_token_id": 63,
}


def tiny_config(**changes) -> MobileVideoGPTConfig:
    """Return the configuration of a tiny model."""
    return MobileVideoGPTConfig(**(SIZES | changes))


def write_byte_tokenizer(folder: Path, frames: int = 16) -> MobileVideoGPTProcessor:
    """Write the processor of a model of ``frames`` frames; its tokens are the bytes and the special tokens of Qwen2."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokens = enumerate((PAD, *SUPERVISED), len(letters))
    added = {str(i): {"content": token, "special": True} for i, token in tokens}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "unk_token": None}
    settings |= {"eos_token": EOS, "pad_token": PAD, "bos_token": None, "additional_special_tokens": list(SUPERVISED)}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    processor = MobileVideoGPTProcessor.from_pretrained(folder, min_frames=frames, max_frames=frames)
    processor.save_pretrained(folder)
    return processor


def token_ids(processor: MobileVideoGPTProcessor) -> dict[str, int | None]:
    """Return the fields of a configuration that follow from the tokenizer."""
    tokenizer = processor.tokenizer
    ids = {"eos_token_id": tokenizer.convert_tokens_to_ids(EOS), "video_token_id": processor.video_token_id}
    return {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.convert_tokens_to_ids(PAD), **ids}


def random_features(config: MobileVideoGPTConfig, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
    """Draw the features of one clip."""
    return {name: torch.randn(shape, generator=generator) for name, shape in config.feature_shapes.items()}


def chunks(count: int) -> dict[str, int]:
    """Return the fields of a configuration for clips of so many chunks."""
    frames = count * FRAMES_PER_CHUNK
    return {"num_frames": frames, "video_num_frames": frames // 2}
