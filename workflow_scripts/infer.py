"""Rule infer: print what the fine-tuned model says of one clip, and nothing else, on standard output."""

import logging
from pathlib import Path

from mobilevideogpt.annotations.conversations import build_prompt
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.generation import load_for_inference, predict_clip
from mobilevideogpt.files import read_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.adapter import load_finetuned

log_to(snakemake.log[0])
video = snakemake.params.video
base = read_json(snakemake.input.base)
train = read_json(snakemake.input.train)
template, root = snakemake.params.prompt, snakemake.params.data_root
exercise = snakemake.params.exercise or Path(video).resolve().parent.name
if "{exercise}" in template and not snakemake.params.exercise:
    known = {clip.exercise.replace("_", " ") for clip in read_manifest(f"{root}/manifest.json", root)}
    if exercise.replace("_", " ") not in known:
        logging.warning(
            "the prompt names the exercise %r, after the folder of %s, but the data has %s; name it with "
            "`--config exercise=...`",
            exercise,
            video,
            ", ".join(sorted(known)),
        )
model = load_for_inference(base["base"], base["video_encoder"], base["image_encoder"], precision=train["precision"])
print(
    predict_clip(
        load_finetuned(model, train["adapter"]),
        MobileVideoGPTProcessor.from_pretrained(base["base"]),
        video,
        build_prompt(template, exercise),
        max_new_tokens=snakemake.params.max_new_tokens,
    )
)
