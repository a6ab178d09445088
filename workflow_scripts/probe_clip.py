"""Rule probe_clip: check one clip."""

from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.video.clip_check import check_clip

log_to(snakemake.log[0])
params = snakemake.params
limits = {"timeout_seconds": params.timeout_seconds, "memory_gb": params.memory_gb}
segments = {params.clip: params.segments}
check = check_clip(params.clip, **limits, data_root=params.data_root, segments=segments)
write_json(check, snakemake.output.record)
