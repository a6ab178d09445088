"""Rule features: compute missing features, and add to each sample the key of its clip's features."""

import gc
import logging

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.annotations.near_duplicates import read_pairs
from mobilevideogpt.annotations.reports import read_clip_report, read_summary
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.feature_files import write_clip_list
from mobilevideogpt.data.feature_stage import compute_features
from mobilevideogpt.data.samples import files_in_use, with_features
from mobilevideogpt.files import write_json, write_records, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base_ahead
from mobilevideogpt.segments import file_of
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.verification.duplicates import across_splits, describe
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
gc.disable()  # as in build_annotations, until the lists are read
params, given, output = snakemake.params, snakemake.input, snakemake.output
samples = {split: read_samples(given[split]) for split in SPLITS}
split_of = {sample["video"]: split for split in SPLITS for sample in samples[split]}
files = files_in_use(read_clip_report(given.report), split_of, where=given.report)
split_of |= {file_of(video): split for video, split in split_of.items()}
pairs = across_splits(read_pairs(given.duplicates), split_of)
if pairs:
    logging.warning("%s", describe(pairs))
base, verify = read_base_ahead(given.base)
gc.freeze()
gc.enable()
keys = compute_features(
    ModelPaths.from_mapping(base),
    base["encoders_digest"],
    {file.path: file.digest for file in files.values()},
    params.store,
    dtype=params.dtype,
    precision=params.precision,
    batch_size=params.batch_size,
    code=params.extractor,
    cache=params.cache,
    threads=snakemake.threads,
    verify=verify,
)
write_clip_list(params.store, {keys[file.path]: file for file in files.values()}, params.precision)
for split in SPLITS:
    write_records(with_features(samples[split], files, keys), output[split])
write_json(read_summary(given.summary, "build_annotations") | {"near_duplicates": pairs}, output.summary)
write_text(f"{params.made_by}\n", output.made_by)
log_result(f"{counted(len(keys), 'clip{s}')}{'' if params.cache else ', computed in training'}")
