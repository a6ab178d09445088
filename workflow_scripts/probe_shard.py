"""Rule probe_shard: records of a shard's clips; those are decoded that are new or changed."""

from functools import partial

from mobilevideogpt.files import json_digest, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.video.check_cache import remembered
from mobilevideogpt.video.clip_check import probe_many

log_to(snakemake.log[0])
params = snakemake.params
limits = {"timeout_seconds": params.timeout_seconds, "memory_gb": params.memory_gb, "data_root": params.data_root}
records = remembered(
    list(params.clips),
    params.remembered,
    json_digest([limits, params.code]),
    partial(probe_many, workers=snakemake.threads, **limits),
)
write_json(records, snakemake.output.records)
