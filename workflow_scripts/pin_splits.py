"""Rule pin_splits: write down which clip is in which split, so that it stays there."""

from mobilevideogpt.annotations.pins import add_pins
from mobilevideogpt.annotations.samples import read_annotations
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
data_root = snakemake.params.data_root
splits = {row["video"]: row["split"] for file in snakemake.input for row in read_annotations(file)}
print(add_pins(f"{data_root}/splits.csv", splits, data_root))
