"""Rule describe_base: record which base and encoders are used, by the digests of their files."""

from mobilevideogpt.files import file_digest, read_json, write_json
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
digests = {}
for file in snakemake.input.files:
    if file.endswith("/fetched.json"):
        folder = file.removesuffix("fetched.json")
        digests |= {folder + name: digest for name, digest in read_json(file)["files"].items()}
    else:
        digests[file] = file_digest(file)
write_json({**snakemake.params.model, "files": digests}, snakemake.output.record)
