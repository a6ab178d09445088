"""Rule describe_base: describe the base checkpoint and the encoders by the digests of their files."""

from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, describe
from mobilevideogpt.stage_result import log_result

log_to(snakemake.log[0])
paths = ModelPaths.from_mapping(snakemake.params.model)
write_json(describe(paths, snakemake.input.files), snakemake.output.record)
log_result(paths.base)
