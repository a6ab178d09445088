"""Rule find_duplicates: look for clips that show the same take in different splits; a warning, no error."""

import logging

from mobilevideogpt.annotations.pins import SPLITS
from mobilevideogpt.annotations.samples import read_annotations
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.duplicates import describe, near_duplicates

log_to(snakemake.log[0])
files = [snakemake.input[split] for split in SPLITS]
splits = {row["video"]: row["split"] for file in files for row in read_annotations(file)}
pairs = near_duplicates(read_json(snakemake.input.hashes), splits)
if pairs:
    logging.warning("%s", describe(pairs))
write_json(pairs, snakemake.output.pairs)
