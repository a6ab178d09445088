"""Seconds of a run with nothing to do and of a dry run, beside an empty workflow of as many jobs.

    python benchmarks/no_op.py   # after `snakemake --cores 1 finetune`

The runs alternate. Prints medians and their ratios.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USUAL_MESSAGES = {"SNAKEMAKE_LOGGER_STAGES_USUAL": "true"}
EMPTY = """
rule all:
    input: expand("done/{{n}}", n=range({jobs}))
rule job:
    output: touch("done/{{n}}")
"""


def snakemake(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run Snakemake and return its seconds and what it printed.

    Raises:
        SystemExit: If it failed.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **USUAL_MESSAGES})
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return seconds, done.stdout + done.stderr


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    _, plan = snakemake(ROOT, "-n", "--forceall", "finetune")
    jobs = int(re.search(r"^total +(\d+)", plan, re.MULTILINE)[1])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Snakefile").write_text(EMPTY.format(jobs=jobs - 1))
        snakemake(Path(folder))
        cases = {"ours": (ROOT, ["finetune"]), "a dry run": (ROOT, ["-n", "finetune"]), "empty": (Path(folder), [])}
        seconds = {name: [] for name in cases}
        for _ in range(options.runs):
            for name, (where, target) in cases.items():
                taken, text = snakemake(where, *target)
                if "Nothing to be done" not in text:
                    sys.exit(f"{name}: there was something to do:\n{text}")
                seconds[name].append(taken)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{jobs} jobs, {options.runs} runs each:")
    for name, taken in median.items():
        print(f"{name:9} {taken:5.2f} s  {taken / median['empty']:.2f} times the empty workflow")


if __name__ == "__main__":
    main()
