"""Rule features_shard: compute the missing features of the clips of a shard."""

import gc

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.annotations.reports import read_clip_report
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.data.feature_stage import compute_features
from mobilevideogpt.data.samples import files_in_use
from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base_ahead
from mobilevideogpt.paths import shard_of
from mobilevideogpt.segments import file_of
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
gc.disable()  # as in build_annotations, until the lists are read
params, given, shard = snakemake.params, snakemake.input, snakemake.wildcards.shard
videos = {sample["video"] for split in SPLITS for sample in read_samples(given[split])}
of_shard = [video for video in videos if shard_of(file_of(video), len(shard)) == shard]
files = files_in_use(read_clip_report(given.report), of_shard, where=given.report)
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
    cache=True,
    threads=snakemake.threads,
    verify=verify,
)
write_json(keys, snakemake.output.found)
log_result(counted(len(keys), "clip{s}"))
