"""Rule evaluate: what the base, the fine-tuned model and the grounding control answer on the test clips."""

import json
from pathlib import Path

from mobilevideogpt.annotations.samples import read_annotations
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import load_for_inference
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
base = read_json(snakemake.input.base)
train = read_json(snakemake.input.train)
model = load_for_inference(base["base"], base["video_encoder"], base["image_encoder"], precision=train["precision"])
processor = MobileVideoGPTProcessor.from_pretrained(base["base"])
store = FeatureStore(snakemake.params.store)
if snakemake.params.uncached:
    store = UncachedFeatures(snakemake.params.store, processor, model, snakemake.params.uncached)
metrics, rows = evaluate(
    model,
    processor,
    Path(train["adapter"]),
    read_annotations(snakemake.input.test),
    read_json(snakemake.input.features),
    store,
    prompt_names_exercise="{exercise}" in snakemake.params.prompt,
    answers=snakemake.params.answers,
    seed=snakemake.params.seed,
    batch_size=snakemake.params.batch_size,
    max_new_tokens=snakemake.params.max_new_tokens,
)
write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), snakemake.output.predictions)
write_json(metrics, snakemake.output.metrics)
