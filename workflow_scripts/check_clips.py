"""Rule check_clips: gather the checks of all clips in one report."""

import gc
from collections import Counter
from pathlib import Path

from mobilevideogpt.files import read_json, remade_by, write_table
from mobilevideogpt.log import log_to
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.verification.clip_report import clip_report, read_clip_checks
from mobilevideogpt.verification.duplicates import hashes_of

log_to(snakemake.log[0])
gc.disable()  # as in build_annotations
params, given = snakemake.params, snakemake.input
clip_checks = list(read_clip_checks(given.records))
reencoded = read_json(given.reencoded, remade_by("reencode"), shape={str: {"of": str}}) if given.reencoded else {}
report = clip_report(
    clip_checks,
    bounds=params.bounds,
    reencoded=reencoded,
    segments=params.segments,
    on_error=params.on_error,
    page=str(Path(snakemake.output.report).with_name("report.md")),
)
write_table(hashes_of(clip_checks), snakemake.output.hashes)
write_table(report, snakemake.output.report)
statuses = Counter(clip["verdict"] for clip in report["clips"])
log_result(", ".join(f"{n} {status}" for status, n in sorted(statuses.items(), key=lambda item: item[0] != "ok")))
