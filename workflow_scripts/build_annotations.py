"""Rule build_annotations: join clips and labels, split them, and write the conversations."""

import gc

from mobilevideogpt.annotations.build import build, splits_sentence
from mobilevideogpt.files import write_json, write_records
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result

log_to(snakemake.log[0])
gc.disable()  # it would walk over 300,000 labels again and again, and free none
params, given, output = snakemake.params, snakemake.input, snakemake.output
built = build(
    given.manifest or params.manifest,
    given.labels or params.labels or None,
    data_root=params.data_root,
    exclude=params.exclude,
    source=params.source,
    workers=given.workers or params.workers or None,
    pins=given.pins or params.pins or None,
    integrity=given.integrity,
    leave_out=params.on_error == "leave_out",
    duplicates=given.duplicates,
    prompt=params.prompt,
    split=params.split,
    split_source=params.split_source,
    recording_pattern=params.recording_pattern,
    seed=params.seed,
    max_new_tokens=None if params.max_new_tokens == "auto" else params.max_new_tokens,
)
for split, samples in built.annotations.items():
    write_records(samples, output[split])
write_records(built.ground_truth, output.ground_truth)
write_json(built.summary, output.summary)
log_result(splits_sentence(built.summary))
