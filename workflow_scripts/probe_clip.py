"""Rule probe_clip: record whether a clip decodes, and how long it is."""

from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.video.clip_check import probe

log_to(snakemake.log[0])
params = snakemake.params
limits = {"timeout_seconds": params.timeout_seconds, "memory_gb": params.memory_gb}
record = probe(params.clip, **limits, data_root=params.data_root)
write_json(record, snakemake.output.record)
