"""Rule preflight: check the machine against the settings, and rehearse a few steps of the fine-tuning."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.annotations.reports import read_clip_report
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.checks import Check, failed_lines
from mobilevideogpt.data.feature_files import feature_path
from mobilevideogpt.data.feature_stage import feature_keys
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, write_json, write_text
from mobilevideogpt.log import log_to
from mobilevideogpt.model.model_paths import ModelPaths, read_base_ahead
from mobilevideogpt.stage_result import log_result
from mobilevideogpt.training.nodes import check_nodes
from mobilevideogpt.training.rehearsal_process import RehearsalProcess
from mobilevideogpt.training.settings import TrainingSettings

log_to(snakemake.log[0])
params = snakemake.params
settings = TrainingSettings.from_dict(params.finetune)
check_nodes(settings.nodes, settings.hostfile)
base, verify = read_base_ahead(snakemake.input.base)
samples = read_samples(snakemake.input.draft)  # of all splits: which is the longest of train is not settled yet
counts = Counter(sample["split"] for sample in samples)
clips = {sample["video"] for sample in samples}
# Of an earlier run. A clip that was not checked yet counts as one without features.
checked = read_clip_report(params.report)["clips"] if Path(params.report).exists() else []
files = {clip["file"]: clip["digest"] for clip in checked if clip["video"] in clips and clip["digest"]}
model = ModelPaths.from_mapping(base)
how = {"dtype": params.features_dtype, "precision": params.features_precision, "code": params.extractor}
keys = feature_keys(model, base["encoders_digest"], files, **how)
present = [key for key in keys.values() if feature_path(params.store, key).exists()]
# Unless the last rehearsal may do, a process loads what it needs while this one does.
with nullcontext() if Path(params.rehearsal).exists() else RehearsalProcess() as ready:
    from mobilevideogpt.training.preflight import FeatureFiles, preflight
    from mobilevideogpt.training.rehearsal import RehearsalCache

    verify()
    record = preflight(
        settings.of_one_node(),
        model=model,
        run_folder=params.run_folder,
        allow_cpu=params.allow_cpu,
        min_free_disk_gb=params.min_free_disk_gb,
        train=samples,
        clips={split: counts[split] for split in SPLITS},
        features=FeatureFiles(len(clips) - len(present), params.features_dtype, params.encode),
        cache=RehearsalCache(Path(params.rehearsal), json_digest([base["files"], params.code])),
        deepspeed_configs=params.deepspeed_configs,
        ready=ready,
    )
if not record["ok"]:
    failed = failed_lines(Check(**check) for check in record["checks"])
    raise InputError(f"the fine-tuning would not run on this machine:\n{failed}")
write_json(record, snakemake.output.record)
write_text("passed\n", snakemake.output.passed)
needed = (record["rehearsed_bytes"] or record["predicted_bytes"]) / 1e9
log_result(f"fits: {needed:.1f} GB, {record['precision']}, {record['batch']['micro']} clips at a time")
