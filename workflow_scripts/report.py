"""Rule report: show on one page what was trained, on which data, and what the model learned."""

from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json, read_json_lines
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.duplicates import describe

log_to(snakemake.log[0])
train = read_json(snakemake.input.train)
summary = read_json(snakemake.input.summary)
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_json(snakemake.input.metrics),
    predictions=read_json_lines(snakemake.input.predictions, "run `snakemake --forcerun evaluate`"),
    log=read_json_lines(train["logs"]["steps"], "run `snakemake --forcerun finetune`"),
    integrity=read_json(snakemake.input.integrity),
    preflight=read_json(snakemake.input.preflight),
    summary=summary,
    notes=[describe(summary["near_duplicates"])],
    config=snakemake.config,  # shown only; a setting that changes a result reruns the rule that makes the result
)
