"""Rule probe_shard: check the clips of a shard; only new and changed ones are decoded."""

from functools import partial

from mobilevideogpt.files import json_digest, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.video.check_cache import check_with_cache
from mobilevideogpt.video.clip_check import check_clips

log_to(snakemake.log[0])
params = snakemake.params
limits = {"timeout_seconds": params.timeout_seconds, "memory_gb": params.memory_gb, "data_root": params.data_root}
checks = check_with_cache(
    params.clips,
    params.cache,
    json_digest([limits, params.code]),
    partial(check_clips, workers=snakemake.threads, segments=params.segments, **limits),
    segments=params.segments,
)
write_json(checks, snakemake.output.records)
