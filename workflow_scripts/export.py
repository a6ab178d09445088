"""Rule export: the adapter merged into a checkpoint in the official layout, in float32, where merging is exact."""

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.files import read_json, replacing_folder
from mobilevideogpt.log import log_to
from mobilevideogpt.model.adapter import load_adapter, merge_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

log_to(snakemake.log[0])
base = read_json(snakemake.input.base)
model = MobileVideoGPTForConditionalGeneration.from_pretrained(
    base["base"], video_encoder=base["video_encoder"], image_encoder=base["image_encoder"], dtype="float32"
)
model = merge_adapter(load_adapter(model, read_json(snakemake.input.train)["adapter"]))
with replacing_folder(snakemake.params.folder) as folder:
    model.save_pretrained(folder, layout="official")
    MobileVideoGPTProcessor.from_pretrained(base["base"]).save_pretrained(folder)
