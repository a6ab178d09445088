"""Rule export: merge the adapter into a checkpoint in the official layout."""

from pathlib import Path

from mobilevideogpt.files import write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base
from mobilevideogpt.serving.export import export
from mobilevideogpt.training.checkpoints import verified_adapter

log_to(snakemake.log[0])
paths = ModelPaths.from_mapping(read_base(snakemake.input.base))
export(paths, verified_adapter(Path(snakemake.input.train).parent), snakemake.params.folder)
write_text(f"{snakemake.params.made_by}\n", snakemake.output.made_by)
