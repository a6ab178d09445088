"""Rule export: the adapter merged into a checkpoint, or in the layout of the original's adapters."""

from mobilevideogpt.files import write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.serving.export import export, export_original_adapter
from mobilevideogpt.serving.finetuned import find_finetuned

log_to(snakemake.log[0])
params = snakemake.params
finetuned = find_finetuned(params.run, download=False)
write = export_original_adapter if params.layout == "original-adapter" else export
write(finetuned, params.folder)
write_text(f"{params.made_by}\n", snakemake.output.made_by)
