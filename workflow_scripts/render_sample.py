"""Rule render_sample: render the clips of the sample and write their labels."""

from pathlib import Path

from mobilevideogpt.log import log_to
from mobilevideogpt.sample.names import clip_names
from mobilevideogpt.sample.render import write_sample
from mobilevideogpt.stage_result import log_result

log_to(snakemake.log[0])
write_sample(Path(snakemake.output.manifest).parent, seed=snakemake.params.seed)
log_result(f"{len(clip_names())} clips drawn")
