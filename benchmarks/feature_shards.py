"""Clips a second of features in 16 shards, one job at a time and two at a time, on the CPU with the tiny base.

    python benchmarks/feature_shards.py [--clips 64]

Works in a copy of the project with drawn clips, each of which differs. A job has one thread, as if each had a machine
of its own. The time is from the first shard's start to the last one's end, and includes loading the encoders in each.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import yaml
from many_clips import make_project  # in this folder

from mobilevideogpt.sample.exercises import EXERCISES
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.render import ClipSpec, write_clip

TIME = re.compile(r"^\[(.+)\]\n(?:rule|Job|Finished|localrule)", re.M)


def snakemake(project: Path, *arguments: str) -> str:
    """Run Snakemake in a project, and return its output.

    Raises:
        SystemExit: If it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(project), "SNAKEMAKE_LOGGER_STAGES_USUAL": "true"}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-5000:])
    return done.stdout + done.stderr


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        make_project(project, options.clips)
        for number, path in enumerate(sorted(project.glob("dataset/*/*.mp4"))):
            path.unlink()  # the link to a clip that all share
            write_clip(ClipSpec(list(EXERCISES)[number % len(EXERCISES)], NO_ISSUE, (2, number)), path)
        settings = yaml.safe_load((project / "config.yaml").read_text())
        settings["features"] |= {"shards": 16}
        (project / "config.yaml").write_text(yaml.safe_dump(settings))
        snakemake(project, "--cores", "2", "preflight", "annotations")
        rates = {}
        for jobs in (1, 2):
            shutil.rmtree(project / "results/features", ignore_errors=True)
            limits = ["--cores", str(jobs), "--resources", f"gpu={jobs}", "--set-threads", "features_shard=1"]
            output = snakemake(project, "features", "--until", "features_shard", *limits)
            times = [datetime.strptime(found, "%a %b %d %H:%M:%S %Y") for found in TIME.findall(output)]
            rates[jobs] = options.clips / (times[-1] - times[0]).total_seconds()
            shards = output.count("Finished jobid")
            print(f"{jobs} at a time: {rates[jobs]:.2f} clips/s ({options.clips} clips in {shards} shards)", flush=True)
        print(f"two at a time: {rates[2] / rates[1]:.2f} times the clips/s of one")


if __name__ == "__main__":
    main()
