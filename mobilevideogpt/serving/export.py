"""The export of a fine-tuned model as one checkpoint in the official layout."""

import shutil
from pathlib import Path

from mobilevideogpt.checksums import write_sums
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.files import replacing_folder
from mobilevideogpt.model.adapter import load_finetuned, merge_adapter
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def export(paths: ModelPaths, adapter: str | Path, folder: str | Path) -> None:
    """Merge an adapter into its base and write the checkpoint, whole or not at all.

    The weights are float32, in which merging adds no rounding. The tokenizer's files are the base's own, since the
    original code cannot read those that current transformers writes.

    Args:
        paths: The base and its encoders.
        adapter: Folder of the adapter.
        folder: Where the checkpoint is written; a former export there is replaced.
    """
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(paths.base, **paths.encoders, dtype="float32")
    merged = merge_adapter(load_finetuned(model, adapter))
    with replacing_folder(folder) as temporary:
        MobileVideoGPTProcessor.from_pretrained(paths.base).save_pretrained(temporary)
        for written in temporary.glob("tokenizer*"):
            written.unlink()
        for name in TOKENIZER_FILES:
            if (file := Path(paths.base, name)).is_file():
                shutil.copyfile(file, temporary / name)
        merged.save_pretrained(temporary, layout="official")
        write_sums(temporary)
