"""Rule export: the adapter merged into a checkpoint in the official layout, in float32, where merging is exact."""

import shutil
from pathlib import Path

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.files import read_json, replacing_folder
from mobilevideogpt.log import log_to
from mobilevideogpt.model.adapter import load_finetuned, merge_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

TOKENIZER_FILES = "vocab.json merges.txt tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json"

log_to(snakemake.log[0])
base = read_json(snakemake.input.base)
model = MobileVideoGPTForConditionalGeneration.from_pretrained(
    base["base"], video_encoder=base["video_encoder"], image_encoder=base["image_encoder"], dtype="float32"
)
model = merge_adapter(load_finetuned(model, read_json(snakemake.input.train)["adapter"]))
with replacing_folder(snakemake.params.folder) as folder:
    MobileVideoGPTProcessor.from_pretrained(base["base"]).save_pretrained(folder)
    for written in folder.glob("tokenizer*"):
        written.unlink()
    for name in TOKENIZER_FILES.split():  # the base's own: what transformers writes now, the original code cannot read
        if (file := Path(base["base"], name)).is_file():
            shutil.copyfile(file, folder / name)
    model.save_pretrained(folder, layout="official")
