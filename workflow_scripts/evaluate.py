"""Rule evaluate: score the base, the fine-tuned model and the grounding control on the test clips."""

import json

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import load_for_inference
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths

log_to(snakemake.log[0])
params = snakemake.params
train = read_json(snakemake.input.train)
paths = ModelPaths.from_mapping(read_json(snakemake.input.base))
model = load_for_inference(paths, precision=train["precision"])
processor = MobileVideoGPTProcessor.from_pretrained(paths.base)
store = FeatureStore(params.store)
if params.uncached:
    store = UncachedFeatures(params.store, processor, model, params.uncached)
metrics, rows = evaluate(
    model,
    processor,
    train["adapter"],
    read_samples(snakemake.input.test),
    store,
    prompt_names_exercise="{exercise}" in params.prompt,
    answers=params.answers,
    seed=params.seed,
    batch_size=params.batch_size,
    max_new_tokens=params.max_new_tokens,
)
write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), snakemake.output.predictions)
write_json(metrics, snakemake.output.metrics)
