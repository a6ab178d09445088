"""Rule preflight: check the machine against the settings, and rehearse two steps of the fine-tuning."""

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.preflight import preflight

log_to(snakemake.log[0])
params = snakemake.params
base = read_json(snakemake.input.base)
splits = {split: read_samples(snakemake.input[split]) for split in ("train", "val", "test")}
record = preflight(
    TrainingSettings.from_dict(params.finetune),
    base=base["base"],
    video_encoder=base["video_encoder"],
    image_encoder=base["image_encoder"],
    run_folder=params.run_folder,
    allow_cpu=params.allow_cpu,
    min_free_disk_gb=params.min_free_disk_gb,
    train=splits["train"],
    clips={split: len(rows) for split, rows in splits.items()},
    store=params.store,
    features_dtype=params.features_dtype,
    encode=params.encode,
)
if not record["ok"]:
    wrong = [
        f"  {check['name']}: {check['detail']}; {check['remedy']}" for check in record["checks"] if not check["ok"]
    ]
    raise InputError("the fine-tuning would not run on this machine:\n" + "\n".join(wrong))
write_json(record, snakemake.output.record)
write_text("passed\n", snakemake.output.passed)
