"""Rule features: run the frozen encoders over the clips that have no features yet."""

import torch

from mobilevideogpt.data.features import FeatureStore, extract_features
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.data.records import read_annotations, unusable
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration, encoder_state_digest

SPLITS = ("train", "val", "test")

log_to(snakemake.log[0])
params = snakemake.params
report = read_json(snakemake.input.report)
records = {clip["video"]: clip for clip in report["clips"]}
splits = {split: [row["video"] for row in read_annotations(snakemake.input[split])] for split in SPLITS}
clips = [clip for split in SPLITS for clip in splits[split]]
if errors := {clip: problems for clip, problems in unusable(report).items() if clip in set(clips)}:
    listed = "\n".join(f"  {clip}: {'; '.join(problems)}" for clip, problems in list(errors.items())[:10])
    raise InputError(
        f"{len(errors)} of {len(clips)} clips cannot be used (see {snakemake.input.report}); mend them, list them in "
        f"dataset.exclude, or set integrity.on_error to leave_out:\n{listed}"
    )

torch.set_num_threads(snakemake.threads)
device = "cuda" if torch.cuda.is_available() else "cpu"
base = read_json(snakemake.input.base)
model = MobileVideoGPTForConditionalGeneration.from_pretrained(
    base["base"], video_encoder=base["video_encoder"], image_encoder=base["image_encoder"]
)
keys = extract_features(
    model.to(device),
    MobileVideoGPTProcessor.from_pretrained(base["base"]),
    {records[clip]["file"]: records[clip]["digest"] for clip in clips},  # re-encoded ones stand elsewhere
    FeatureStore(params.store),
    encoder_state_digest(model),
    {"dtype": params.dtype, "code": params.extractor},
    batch_size=params.batch_size,
    device=device,
)
for split in SPLITS:
    write_json({clip: keys[records[clip]["file"]] for clip in splits[split]}, snakemake.output[split])
