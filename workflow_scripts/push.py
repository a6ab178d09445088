"""Rule push: upload a run's adapter, or its export, to the hub."""

from mobilevideogpt.log import log_to
from mobilevideogpt.serving.finetuned import find_finetuned
from mobilevideogpt.serving.push import push

log_to(snakemake.log[0])
params = snakemake.params
lines = push(
    find_finetuned(params.run, download=False),
    params.repo_id,
    exported=params.folder,
    public=params.public,
    dry_run=params.dry_run,
)
print("\n".join(lines))
