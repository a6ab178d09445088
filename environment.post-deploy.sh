#!/bin/sh
# What environment.yml cannot name, since Snakemake copies it: the pins and the package. To be run in the project's folder.
set -e
if [ ! -f requirements.lock ]; then
  echo "requirements.lock: not in $PWD; run this in the project's folder" >&2
  exit 1
fi
python -m pip install -r requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
