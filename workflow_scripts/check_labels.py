"""Rule check_labels: build the annotations as a draft, so that a fault of the labels is told before any decoding."""

import gc

from mobilevideogpt.annotations.build import build
from mobilevideogpt.files import write_records
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
gc.disable()  # as in build_annotations
params, given = snakemake.params, snakemake.input
built = build(
    given.manifest or params.manifest,
    given.labels or params.labels or None,
    data_root=params.data_root,
    exclude=params.exclude,
    source=params.source,
    workers=given.workers or params.workers or None,
    pins=given.pins or params.pins or None,
    prompt=params.prompt,
    split=params.split,
    split_source=params.split_source,
    recording_pattern=params.recording_pattern,
    seed=params.seed,
    complete=params.on_error != "leave_out",
    draft=True,
)
samples = sum(built.summary["conversations"].values())
log_result(f"{counted(built.summary['clips'], 'clip{s}')}, {counted(samples, 'sample{s}')}")
write_records([sample for samples in built.annotations.values() for sample in samples], snakemake.output.draft)
