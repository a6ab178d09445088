"""Rule check_clips: gather the records of all clips in one report, for programs and for people."""

from mobilevideogpt.data.verification import markdown, summarise
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
report = summarise(read_json(record) for record in snakemake.input.records)
write_text(markdown(report), snakemake.output.page)
write_json(report, snakemake.output.report)
