"""Rule normalise: re-encode the clips that would be shown wrongly, and list the new files."""

from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.verification.checklist import read_records
from mobilevideogpt.video.reencode import normalise_clips

log_to(snakemake.log[0])
params = snakemake.params
index = normalise_clips(
    read_records(snakemake.input.records),
    params.data_root,
    params.folder,
    workers=snakemake.threads,
    timeout_seconds=params.timeout_seconds,
    memory_gb=params.memory_gb,
    code=params.code,
)
failed = {video: entry["problem"] for video, entry in index.items() if "problem" in entry}
print(f"{len(index) - len(failed)} clips are re-encoded in {params.folder}/, {len(failed)} could not be")
for video, problem in failed.items():
    print(f"  {video}: {problem}")
if index:
    print("They are used where integrity.use_normalised is true.")
write_json(index, snakemake.output.index)
