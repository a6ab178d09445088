"""Rule render_sample: render the clips of the sample and write their labels."""

from pathlib import Path

from mobilevideogpt.log import log_to
from mobilevideogpt.sample.render import write_sample

log_to(snakemake.log[0])
write_sample(Path(snakemake.output.manifest).parent, seed=snakemake.params.seed)
