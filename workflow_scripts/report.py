"""Rule report: what was trained on what, and what it learned, on one page."""

from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json, read_json_lines
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.duplicates import describe

log_to(snakemake.log[0])
train = read_json(snakemake.input.train)
annotations, pairs = read_json(snakemake.input.annotations), read_json(snakemake.input.duplicates)
split = annotations["split"]
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_json(snakemake.input.metrics),
    predictions=read_json_lines(snakemake.input.predictions, "`snakemake --forcerun evaluate` writes it anew"),
    log=read_json_lines(train["logs"]["steps"], "`snakemake --forcerun finetune` writes it anew"),
    verify=read_json(snakemake.input.integrity),
    preflight=read_json(snakemake.input.preflight),
    splits=annotations["splits"],
    findings=annotations["findings"],
    notes=[*split["notices"], *(f"Parted: {leak}" for leak in split["leaks"]), describe(pairs)],
    config=snakemake.config,  # to be read, only: what shapes a result reruns a rule above this one
)
