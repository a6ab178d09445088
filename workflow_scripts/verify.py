"""Rule verify: print the checklist; the exit status tells whether all is well."""

import sys

from mobilevideogpt.data.verification import print_checks, verify_checks
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
params = snakemake.params
checks = verify_checks(
    data_root=params.data_root,
    results=params.results,
    exclude=params.exclude,
    label_files=params.label_files,
    min_free_disk_gb=params.min_free_disk_gb,
)
checks.insert(0, {"name": "configuration", "ok": True, "detail": f"valid; data: {params.source}", "remedy": ""})
print_checks(checks)
sys.exit(not all(check["ok"] for check in checks))
