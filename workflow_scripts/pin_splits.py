"""Rule pin_splits: write the split of each clip to splits.csv, so that it stays the same when clips are added."""

from mobilevideogpt.annotations.pins import add_pins
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.log import log_to

log_to(snakemake.log[0])
data_root = snakemake.params.data_root
splits = {sample["video"]: sample["split"] for file in snakemake.input for sample in read_samples(file)}
print(add_pins(f"{data_root}/splits.csv", splits, data_root))
