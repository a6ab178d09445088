"""Rule manifest: write dataset/manifest.json from the clips on the disk and their labels."""

from mobilevideogpt.annotations.new_manifest import write_manifest
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
print(write_manifest(snakemake.params.data_root, snakemake.params.labels, snakemake.params.template))
