"""Rule reencode: re-encode the clips that would otherwise be shown wrongly, and list the new files."""

from pathlib import Path

from mobilevideogpt.checksums import write_sums
from mobilevideogpt.files import write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.clip_report import read_clip_checks
from mobilevideogpt.video.reencode import reencode_clips
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
params = snakemake.params
index = reencode_clips(
    read_clip_checks(snakemake.input.records),
    params.data_root,
    params.folder,
    workers=snakemake.threads,
    timeout_seconds=params.timeout_seconds,
    memory_gb=params.memory_gb,
    code=params.code,
)
failed = {video: entry["problem"] for video, entry in index.items() if "problem" in entry}
done = counted(len(index) - len(failed), "clip{s}")
print(f"re-encoded {done} to {params.folder}/{f', {len(failed)} failed' if failed else ''}" if index else "none needed")
for video, problem in failed.items():
    print(f"  {video}: {problem}")
if index:
    print("Set integrity.use_normalised to true to use the new files.")
write_json(index, snakemake.output.index)
write_sums(Path(params.folder))
write_text(f"{params.made_by}\n", snakemake.output.made_by)
