"""Rule probe_clip: record whether a clip decodes, and how long it is."""

from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.video.integrity import probe

log_to(snakemake.log[0])
record = probe(snakemake.params.clip, timeout_seconds=snakemake.params.timeout_seconds)
write_json(record, snakemake.output.record)
