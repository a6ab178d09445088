"""Rule report: what was trained on what, and what it learned, on one page."""

import json
from pathlib import Path

from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json
from mobilevideogpt.log import log_to


def read_lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


log_to(snakemake.log[0])
train = read_json(snakemake.input.train)
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_json(snakemake.input.metrics),
    predictions=read_lines(snakemake.input.predictions),
    log=read_lines(train["logs"]["steps"]),
    verify=read_json(snakemake.input.integrity),
    preflight=read_json(snakemake.input.preflight),
    splits=read_json(snakemake.input.annotations)["splits"],
    config=snakemake.config,  # to be read, only: what shapes a result reruns a rule above this one
)
