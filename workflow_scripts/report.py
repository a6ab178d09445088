"""Rule report: show on one page what was trained, on which data, and what the model learned."""

from pathlib import Path

import yaml

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.frame_bounds import read_frame_bounds
from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json, read_json_lines
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.duplicates import describe

log_to(snakemake.log[0])
run = Path(snakemake.input.train).parent
train = read_json(snakemake.input.train)
summary = read_json(snakemake.input.summary)
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_json(snakemake.input.metrics),
    predictions=read_json_lines(snakemake.input.predictions, "run `snakemake --forcerun evaluate`"),
    train_samples=read_samples(snakemake.input.train_samples),
    log=read_json_lines(run / "log.jsonl", "run `snakemake --forcerun finetune`"),
    integrity=read_json(snakemake.input.integrity),
    preflight=read_json(snakemake.input.preflight),
    summary=summary,
    notes=[describe(summary["near_duplicates"])],
    bounds=read_frame_bounds(train["base"]),
    # As the training wrote it: the call's own configuration may have changed since.
    config=yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")),
)
