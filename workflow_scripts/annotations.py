"""Rule annotations: copy the annotations beside the data, where a person looks for them."""

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.annotations.publishing import publish
from mobilevideogpt.files import write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result

log_to(snakemake.log[0])
params = snakemake.params
publish({split: snakemake.input[split] for split in SPLITS}, params.data_root, params.memory)
write_text(f"{params.made_by}\n", snakemake.output.made_by)
log_result(f"copied to {params.data_root}/qved_{{{','.join(SPLITS)}}}.json")
