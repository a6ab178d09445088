"""Exports of a fine-tuned model: one checkpoint in the official layout, or an adapter as the original code loads it."""

import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mobilevideogpt.checksums import write_sums
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, replacing_folder, write_json
from mobilevideogpt.model.adapter import (
    ORIGINAL_PROJECTORS,
    load_finetuned,
    merge_adapter,
    write_plain_lora_config,
)
from mobilevideogpt.model.model_paths import ADAPTER_FILES
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration, read_config
from mobilevideogpt.model.official_layout import official_config
from mobilevideogpt.serving.finetuned import Finetuned
from mobilevideogpt.serving.model_card import hub_name, public_record, write_card
from mobilevideogpt.training.checkpoints import CARD, RUN_RECORD

TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def export(finetuned: Finetuned, folder: str | Path) -> None:
    """Merge an adapter into its base and write the checkpoint, whole or not at all.

    The weights are float32, in which merging adds no rounding. The tokenizer's files are the base's own, since the
    original code cannot read those that current transformers writes.

    Args:
        finetuned: The adapter and its base.
        folder: Where the checkpoint is written; a former export there is replaced.

    Raises:
        InputError: If there is no adapter to merge.
    """
    adapter, paths = _adapter(finetuned), finetuned.paths
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(paths.base, **paths.encoders, dtype="float32")
    merged = merge_adapter(load_finetuned(model, adapter))
    with replacing_folder(folder) as temporary:
        _write_tokenizer(paths.base, temporary)
        merged.save_pretrained(temporary, layout="official")
        write_json(public_record(finetuned.record), temporary / RUN_RECORD)
        write_sums(temporary)
        write_card(finetuned, temporary / CARD, "export")


def export_original_adapter(finetuned: Finetuned, folder: str | Path) -> None:
    """Write an adapter as the LoRA loader of the original code reads it, with PEFT 0.11 and transformers 4.

    ``adapter_model.safetensors`` contains LoRA alone, and ``non_lora_trainables.bin`` the projectors, as plain tensors
    that ``torch.load(weights_only=True)`` reads. The loader finds the base by its own argument.

    Args:
        finetuned: The adapter and its base.
        folder: Where it is written; the original's loader wants a name that contains ``lora``.

    Raises:
        InputError: If all weights were trained, which is no LoRA.
    """
    adapter, paths = _adapter(finetuned), finetuned.paths
    if not (adapter / ADAPTER_FILES[0]).is_file():
        raise InputError(
            f"{adapter}: all weights were trained (finetune.method: full), so there is no LoRA; use layout=official"
        )
    tensors = load_file(adapter / ADAPTER_FILES[1])
    projectors = {name: tensor for name, tensor in tensors.items() if "mm_projector." in name}
    with replacing_folder(folder) as temporary:
        _write_tokenizer(paths.base, temporary)
        write_json(official_config(read_config(paths)), temporary / "config.json")
        config = read_json(adapter / ADAPTER_FILES[0], shape=dict)
        base = hub_name(config.get("base_model_name_or_path") or paths.base)
        config |= {"modules_to_save": None, "base_model_name_or_path": base}
        write_json(config, temporary / ADAPTER_FILES[0])
        write_plain_lora_config(temporary)
        lora = {name: tensor for name, tensor in tensors.items() if name not in projectors}
        save_file(lora, temporary / ADAPTER_FILES[1], metadata={"format": "pt"})
        torch.save({name: tensor.clone() for name, tensor in projectors.items()}, temporary / ORIGINAL_PROJECTORS)
        write_json(public_record(finetuned.record), temporary / RUN_RECORD)
        write_sums(temporary)
        write_card(finetuned, temporary / CARD, "original-adapter")


def _adapter(finetuned: Finetuned) -> Path:
    if finetuned.adapter is None:
        raise InputError(f"{finetuned.name}: is merged already; export a run or an adapter")
    return finetuned.adapter


def _write_tokenizer(base: str, folder: Path) -> None:
    """Write the frame bounds, and the tokenizer's files as those of the base."""
    MobileVideoGPTProcessor.from_pretrained(base).save_pretrained(folder)
    for written in folder.iterdir():
        if re.match("tokenizer", written.name):
            written.unlink()
    for name in TOKENIZER_FILES:
        if (file := Path(base, name)).is_file():
            shutil.copyfile(file, folder / name)
