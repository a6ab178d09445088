"""Rule find_duplicates: find pairs of clips whose frames are alike."""

import gc

from mobilevideogpt.annotations.groups import recordings_of
from mobilevideogpt.files import read_json, remade_by, write_records
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.verification.duplicates import near_duplicates
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
gc.disable()  # as in build_annotations
shape = {str: {"seconds": (float, None), "hashes": [(str, None)]}}
hashes = read_json(snakemake.input.hashes, remade_by("check_clips"), shape=shape)
recordings = recordings_of(hashes, snakemake.params.recording_pattern).by_clip
pairs = list(near_duplicates(hashes, recordings))
write_records(pairs, snakemake.output.duplicates)
log_result(counted(len(pairs), "pair{s} of clips alike") if pairs else "no two clips alike")
