"""Rule verify: print the checklist; the exit status tells whether all is well."""

import sys

from mobilevideogpt.files import read_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.checklist import markdown, print_checks, verify_checks

log_to(snakemake.log[0])
params = snakemake.params
checks = verify_checks(
    data_root=params.data_root,
    results=params.results,
    exclude=params.exclude,
    label_files=params.label_files,
    answers=params.answers,
    model=params.model,
    on_error=params.on_error,
    min_free_disk_gb=params.min_free_disk_gb,
    allow_cpu=params.allow_cpu,
)
checks.insert(0, {"name": "configuration", "ok": True, "detail": f"valid; data: {params.source}", "remedy": ""})
print_checks(checks)
page = f"{params.results}/verify/report.md"
write_text(markdown(checks, read_json(snakemake.input.report)), page)
print(f"the same, and each clip that is not simply well: {page}")
sys.exit(not all(check["ok"] for check in checks))
