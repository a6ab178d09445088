"""Rule evaluate: score the base, the fine-tuned model and the grounding control on the test clips."""

import json
from functools import partial
from pathlib import Path

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.evaluation.answers import answer, load_to_answer
from mobilevideogpt.evaluation.evaluate import evaluate
from mobilevideogpt.evaluation.generation import answer_limit
from mobilevideogpt.evaluation.metrics import predictions_csv
from mobilevideogpt.evaluation.scoring import task_of
from mobilevideogpt.files import write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.training.checkpoints import read_run_record, verified_adapter
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
params = snakemake.params
train = read_run_record(Path(snakemake.input.train).parent)
adapter = verified_adapter(Path(snakemake.input.train).parent)
paths = ModelPaths.from_mapping(read_base(snakemake.input.base))
train_samples = read_samples(snakemake.input.train_samples)
limit = params.max_new_tokens
if limit == "auto":
    processor = MobileVideoGPTProcessor.from_pretrained(paths.base)
    limit = answer_limit(processor, train_samples + read_samples(snakemake.input.val_samples))
load = partial(
    load_to_answer, paths, adapter, params.store, precision=train["precision"], uncached_dtype=params.uncached
)
metrics, rows = evaluate(
    partial(answer, load),
    read_samples(snakemake.input.test),
    train_samples,
    seed=params.seed,
    batch_size=params.batch_size,
    max_new_tokens=limit,
)
write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), snakemake.output.predictions)
write_text(predictions_csv(rows, task_of(rows, train_samples)), snakemake.output.table)
write_json(metrics | {"digest": train["digest"]}, snakemake.output.metrics)
log_result(f"{counted(len(rows), 'test sample{s}')} answered")
