"""Rule infer: print what the fine-tuned model says of one clip, and nothing else, on standard output."""

from pathlib import Path

from mobilevideogpt.data.annotations import build_prompt
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.generation import load_for_inference, predict_clip
from mobilevideogpt.files import read_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.adapter import load_finetuned

log_to(snakemake.log[0])
video = snakemake.params.video
base = read_json(snakemake.input.base)
train = read_json(snakemake.input.train)
exercise = snakemake.params.exercise or Path(video).resolve().parent.name
model = load_for_inference(base["base"], base["video_encoder"], base["image_encoder"], precision=train["precision"])
print(
    predict_clip(
        load_finetuned(model, train["adapter"]),
        MobileVideoGPTProcessor.from_pretrained(base["base"]),
        video,
        build_prompt(snakemake.params.prompt, exercise),
        max_new_tokens=snakemake.params.max_new_tokens,
    )
)
