"""Rule clean_features: list the features that no annotation names, then delete them."""

from contextlib import suppress

from mobilevideogpt.data.feature_files import unnamed_features
from mobilevideogpt.log import log_to
from mobilevideogpt.wording import counted

log_to(snakemake.log[0])
store = snakemake.params.store
files = unnamed_features(store)
total = sum(file.stat().st_size for file in files)
for file in files:
    print(file)
number = counted(len(files), "file{s} of features")
print(f"{store}: {number} that no annotation names, {total / 1e9:.2f} GB", end="")
for file in files:
    file.unlink(missing_ok=True)
    with suppress(OSError):  # the folder holds other features
        file.parent.rmdir()
print("; deleted" if files else "; nothing to delete")
