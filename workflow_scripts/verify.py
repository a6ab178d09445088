"""Rule verify: print the checklist; the exit status tells whether every check passed."""

import sys

from mobilevideogpt.annotations.reports import read_clip_report
from mobilevideogpt.checks import all_ok, print_checks
from mobilevideogpt.files import write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.checklist import checklist, markdown

log_to(snakemake.log[0])
params = snakemake.params
checks = checklist(
    data_root=params.data_root,
    results=params.results,
    source=params.source,
    exclude=params.exclude,
    label_files=params.label_files,
    answers=params.answers,
    model=params.model,
    on_error=params.on_error,
    min_free_disk_gb=params.min_free_disk_gb,
    allow_cpu=params.allow_cpu,
    elsewhere=params.elsewhere,
)
print_checks(checks)
page = f"{params.results}/verify/report.md"
write_text(markdown(checks, read_clip_report(snakemake.input.report), data_root=params.data_root), page)
print(f"This list, and each clip with a warning or an error: {page}")
sys.exit(not all_ok(checks))
