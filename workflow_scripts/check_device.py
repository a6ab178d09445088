"""Rule check_device: end at once where the fine-tuning needs a GPU and there is none."""

from mobilevideogpt.files import write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.training.device_check import check_device

log_to(snakemake.log[0])
params = snakemake.params
write_text(f"{check_device(params.allow_cpu, params.samples, params.epochs)}\n", snakemake.output.passed)
