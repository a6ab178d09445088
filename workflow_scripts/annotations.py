"""Rule annotations: join clips and what is said of them, split them, and write the conversations."""

from mobilevideogpt.data.annotations import build_annotations, ground_truth, summarise
from mobilevideogpt.data.labels import join_records, read_records
from mobilevideogpt.data.manifest import Findings, read_manifest
from mobilevideogpt.data.publishing import publish
from mobilevideogpt.files import write_json, write_text
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
params, output = snakemake.params, snakemake.output
findings = Findings(list)
clips = read_manifest(snakemake.input.manifest, params.data_root, params.exclude, findings)
records = read_records(snakemake.input.labels, params.data_root, params.source, findings)
matched = join_records(clips, records, params.source)
annotations = build_annotations(clips, matched, prompt_template=params.prompt, split=params.split, seed=params.seed)
for split, rows in annotations.items():
    write_json(rows, output[split])
write_json(ground_truth(matched), output.ground_truth)
write_json(summarise(clips, matched, annotations, findings), output.summary)
aside = publish(annotations, params.data_root, params.memory)
write_text("".join(f"set aside: {name}\n" for name in aside), output.published)
