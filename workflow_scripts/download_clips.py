"""Rule download_clips: download a few clips of each exercise and their labels from the hub."""

import logging
from pathlib import Path

from mobilevideogpt.hub.clips import download_clips
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
logging.getLogger("huggingface_hub").handlers.clear()  # else its warnings appear twice
params = snakemake.params
download_clips(
    params.repo,
    params.revision,
    Path(snakemake.output.manifest).parent,
    per_exercise=params.per_exercise,
    seed=params.seed,
    source=params.source,
)
