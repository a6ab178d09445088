"""Rule infer: print the fine-tuned model's answer for one clip, and nothing else, on standard output."""

from pathlib import Path

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.generation import load_for_inference
from mobilevideogpt.log import log_to
from mobilevideogpt.model.adapter import load_finetuned
from mobilevideogpt.model.model_paths import ModelPaths, read_base
from mobilevideogpt.serving.predict import predict_clip, prompt_for_clip
from mobilevideogpt.training.checkpoints import read_run_record, verified_adapter

LONGEST_ANSWER = 512  # tokens; most answers end by themselves long before

log_to(snakemake.log[0])
params = snakemake.params
prompt = prompt_for_clip(params.video, params.prompt, params.data_root, params.exercise)
train = read_run_record(Path(snakemake.input.train).parent)
paths = ModelPaths.from_mapping(read_base(snakemake.input.base))
adapter = verified_adapter(Path(snakemake.input.train).parent)
model = load_finetuned(load_for_inference(paths, precision=train["precision"]), adapter)
processor = MobileVideoGPTProcessor.from_pretrained(paths.base)
limit = LONGEST_ANSWER if params.max_new_tokens == "auto" else params.max_new_tokens
print(predict_clip(model, processor, params.video, prompt, max_new_tokens=limit))
