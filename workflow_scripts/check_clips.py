"""Rule check_clips: gather the records of all clips in one report."""

from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.checklist import read_records, summarise
from mobilevideogpt.verification.duplicates import hashes_of

log_to(snakemake.log[0])
params, given = snakemake.params, snakemake.input
records = list(read_records(given.records))
normalised = read_json(given.normalised) if given.normalised else {}
report = summarise(records, bounds=params.bounds, normalised=normalised, on_error=params.on_error)
write_json(hashes_of(records), snakemake.output.hashes)
write_json(report, snakemake.output.report)
