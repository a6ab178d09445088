"""Without a GPU or a connection: the sample's tiny base on the user's own clips. Standard library only."""

FILE = "config/tiny.yaml"
COMMAND = f"snakemake finetune --configfile {FILE}"
TRY = f"to try all steps now, run `{COMMAND}`: a tiny base that is part of the project, on a CPU, without a connection"
WITHOUT_GPU = f"or set preflight.allow_cpu: true, which is slow; {TRY}"
