"""Rule manifest: write dataset/manifest.json from the clips and labels that are there."""

from mobilevideogpt.annotations.manifest import write_manifest
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
print(write_manifest(snakemake.params.data_root, snakemake.params.labels))
