"""Rule download_clips: a few clips of each exercise and their labels from the hub; the manifest is written last."""

import os

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"  # a download takes its time; read when huggingface_hub is imported

from pathlib import Path

from mobilevideogpt.data.hub import download_clips
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
params = snakemake.params
download_clips(
    params.repo,
    params.revision,
    Path(snakemake.output.manifest).parent,
    per_exercise=params.per_exercise,
    seed=params.seed,
)
