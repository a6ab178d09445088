"""Rule annotations: join clips and labels, split them, and write the conversations."""

from pathlib import Path

from mobilevideogpt.data.annotations import build_annotations, publish, summarise
from mobilevideogpt.data.labels import read_labels
from mobilevideogpt.data.manifest import read_manifest
from mobilevideogpt.files import write_json
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
params, output = snakemake.params, snakemake.output
clips = read_manifest(snakemake.input.manifest, params.data_root, params.exclude)
records = read_labels(snakemake.input.labels, params.data_root)
annotations = build_annotations(clips, records, prompt_template=params.prompt, split=params.split, seed=params.seed)
for split, rows in annotations.items():
    write_json(rows, output[split])
publish(annotations, params.data_root, Path(output.summary).with_name("published.json"))
write_json(summarise(clips, records, annotations), output.summary)
