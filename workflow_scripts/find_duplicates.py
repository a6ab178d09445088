"""Rule find_duplicates: find pairs of clips whose frames are alike."""

from mobilevideogpt.annotations.groups import recordings_of
from mobilevideogpt.files import read_json, remade_by, write_records
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.duplicates import near_duplicates

log_to(snakemake.log[0])
shape = {str: {"seconds": (float, None), "hashes": [(str, None)]}}
hashes = read_json(snakemake.input.hashes, remade_by("check_clips"), shape=shape)
recordings = recordings_of(hashes, snakemake.params.recording_pattern).by_clip
write_records(near_duplicates(hashes, recordings), snakemake.output.duplicates)
