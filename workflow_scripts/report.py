"""Rule report: what was trained on what, and what it learned, on one page."""

import json
from pathlib import Path

from mobilevideogpt.data.duplicates import describe
from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json
from mobilevideogpt.log import log_to


def read_lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


log_to(snakemake.log[0])
train = read_json(snakemake.input.train)
annotations, pairs = read_json(snakemake.input.annotations), read_json(snakemake.input.duplicates)
split = annotations["split"]
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_json(snakemake.input.metrics),
    predictions=read_lines(snakemake.input.predictions),
    log=read_lines(train["logs"]["steps"]),
    verify=read_json(snakemake.input.integrity),
    preflight=read_json(snakemake.input.preflight),
    splits=annotations["splits"],
    findings=annotations["findings"],
    notes=[*split["notices"], *(f"Parted: {leak}" for leak in split["leaks"]), describe(pairs)],
    config=snakemake.config,  # to be read, only: what shapes a result reruns a rule above this one
)
