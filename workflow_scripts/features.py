"""Rule features: run the frozen encoders over the clips that have no features yet, and list what there is.

Where features are not kept, they are listed all the same, so that whoever uses them runs again for the same reasons.
"""

import logging

import torch

from mobilevideogpt.annotations.samples import read_annotations, unusable
from mobilevideogpt.data.features import FeatureStore, extract_features, feature_key
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.log import log_to
from mobilevideogpt.model.modeling import encoder_state_digest, load_encoders
from mobilevideogpt.verification.duplicates import describe, near_duplicates

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

if pairs := near_duplicates(read_json(snakemake.input.hashes), {clip: s for s in SPLITS for clip in splits[s]}):
    logging.warning("%s", describe(pairs))
torch.set_num_threads(snakemake.threads)
base = read_json(snakemake.input.base)
encoders = load_encoders(base["base"], base["video_encoder"], base["image_encoder"])
processor = MobileVideoGPTProcessor.from_pretrained(base["base"])
config = encoders.config.to_dict()
geometry = [name for name in config if name.startswith(("video_", "image_"))]
settings = {
    "dtype": params.dtype,
    "code": params.extractor,
    "frames": [processor.min_frames, processor.max_frames],
    "encoders": {name: config[name] for name in (*geometry, "num_frames", "patch_size", "select_highest")},
}
digest = encoder_state_digest(encoders)
digests = {records[clip]["file"]: records[clip]["digest"] for clip in clips}  # re-encoded ones stand elsewhere
if params.cache:
    keys = extract_features(
        encoders,
        processor.frame_reader,
        digests,
        FeatureStore(params.store),
        digest,
        settings,
        batch_size=params.batch_size,
        device="cuda" if torch.cuda.is_available() else "cpu",
        workers=snakemake.threads,
    )
else:
    keys = {file: feature_key(clip, digest, settings) for file, clip in digests.items()}
write_json({key: file for file, key in keys.items()}, f"{params.store}/clips.json")
for split in SPLITS:
    write_json({clip: keys[records[clip]["file"]] for clip in splits[split]}, snakemake.output[split])
