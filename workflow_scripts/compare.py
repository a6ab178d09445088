"""Rule compare: show on one page, and in a JSON file, how runs differ and which of them is better."""

from pathlib import Path

from mobilevideogpt.annotations.reports import read_clip_report
from mobilevideogpt.evaluation.comparison_page import write_comparison
from mobilevideogpt.evaluation.evaluated_run import read_run
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
results, params = Path(snakemake.params.results), snakemake.params
report = results / "verify/report.json"
checks = read_clip_report(report)["clips"] if report.exists() else []
lines = write_comparison(
    snakemake.output.page,
    snakemake.output.record,
    runs=[read_run(results / run) for run in params.runs],
    results=results,
    files={clip["video"]: clip["file"] for clip in checks},
)
print("\n".join([*lines, f"Comparison: {snakemake.output.page}"]))
