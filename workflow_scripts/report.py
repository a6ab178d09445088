"""Rule report: show on one page what was trained, on which data, and what the model learned; write the model card."""

from pathlib import Path

from mobilevideogpt.annotations.reports import read_clip_report, read_summary
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.frame_bounds import read_frame_bounds
from mobilevideogpt.evaluation.evaluated_run import read_config, read_metrics, read_predictions
from mobilevideogpt.evaluation.report import write_report
from mobilevideogpt.files import read_json_lines, remade_by
from mobilevideogpt.log import log_to
from mobilevideogpt.serving.finetuned import Finetuned
from mobilevideogpt.serving.model_card import write_card
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.training.checkpoints import CARD, read_preflight
from mobilevideogpt.verification.duplicates import describe

log_to(snakemake.log[0])
run = Path(snakemake.input.train).parent
finetuned = Finetuned.of_run(run)
train = finetuned.record
summary = read_summary(snakemake.input.summary, "features")
write_report(
    snakemake.output.page,
    train=train,
    metrics=read_metrics(snakemake.input.metrics, remade_by("evaluate")),
    predictions=read_predictions(snakemake.input.predictions, remade_by("evaluate")),
    train_samples=read_samples(snakemake.input.train_samples),
    log=read_json_lines(run / "log.jsonl", remade_by("finetune"), shape={"step": int}),
    integrity=read_clip_report(snakemake.input.integrity),
    preflight=read_preflight(snakemake.input.preflight),
    summary=summary,
    notes=[describe(summary["near_duplicates"])],
    bounds=read_frame_bounds(train["base"]),
    # As the training wrote it: the call's own configuration may have changed since.
    config=read_config(run / "config.yaml", remade_by("finetune")),
)
write_card(finetuned, finetuned.adapter / CARD, "adapter")
log_result(snakemake.output.page)
