"""Rule annotations: join clips and what is said of them, split them, and write the conversations."""

import gc
import logging

from mobilevideogpt.annotations.conversations import build_annotations, ground_truth, summarise
from mobilevideogpt.annotations.groups import read_workers
from mobilevideogpt.annotations.labels import join_records, read_records
from mobilevideogpt.annotations.manifest import Findings, read_manifest
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.annotations.publishing import publish
from mobilevideogpt.annotations.samples import unusable
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json, write_records, write_text
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
gc.disable()  # 300,000 records, none of them garbage, would be walked over and over
params, given, output = snakemake.params, snakemake.input, snakemake.output
findings = Findings(list)
clips = read_manifest(given.manifest, params.data_root, params.exclude, findings)
if given.integrity:  # integrity.on_error: leave_out
    errors = unusable(read_json(given.integrity))
    for clip, problems in errors.items():
        findings["clips left out for an error"].append(f"{clip}: {'; '.join(problems)}")
    if errors:
        left_out = (len(errors), len(clips), output.summary)
        logging.warning("%d of %d clips are left out for an error; %s lists them", *left_out)
    if not (clips := [clip for clip in clips if clip.path not in errors]):
        raise InputError(f"{given.integrity}: each clip has an error; mend one or more, as verify/report.md tells")
records = read_records(given.labels, params.data_root, params.source, findings)
matched = join_records(clips, records, params.source)
splits = assign_splits(
    clips,
    matched.by_clip,
    params.split,
    params.seed,
    source=params.split_source,
    workers=read_workers(given.workers, clips, params.data_root) if given.workers else None,
    pins=read_pins(given.pins, params.data_root) if given.pins else None,
    recording_pattern=params.recording_pattern,
)
annotations = build_annotations(clips, matched, splits.by_clip, prompt_template=params.prompt)
for split, rows in annotations.items():
    write_records(rows, output[split])
write_records(ground_truth(matched), output.ground_truth)
write_json(summarise(clips, matched, splits, annotations, findings), output.summary)
aside = publish({split: output[split] for split in annotations}, params.data_root, params.memory)
write_text("".join(f"set aside: {name}\n" for name in aside), output.published)
