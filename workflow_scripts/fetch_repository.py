"""Rule fetch_repository: download one repository of the hub, or check the files that are there."""

import logging
import os

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"  # show progress; huggingface_hub reads this when imported

from pathlib import Path

from mobilevideogpt.hub.checkpoints import fetch
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
logging.getLogger("huggingface_hub").handlers.clear()  # else its warnings appear twice
folder = Path(snakemake.output.record).parent
wanted = snakemake.params.wanted
missing = snakemake.params.missing
fetch(f"{folder.parent.name}/{folder.name}", folder, wanted["revision"], wanted["patterns"], missing=missing)
