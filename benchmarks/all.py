"""Every speed and memory figure of a GPU beside its goal, as one table in Markdown.

    python benchmarks/all.py [--folder DIR] [--only training features pipeline] [--write]

Runs `training.py`, `features.py`, `feature_precision.py` and `pipeline.py`, each in a process of its own, and prints
what they measured. ``--write`` puts the table into `benchmarks/README.md`, with machine, versions and date. On an H200
with 16 cores it takes about eight minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).parent
README = HERE / "README.md"
TABLE = re.compile(r"(?<=<!-- table -->\n).*(?=<!-- end of table -->)", re.DOTALL)
COMMANDS = {
    "training": ["training.py"],
    "features": ["features.py", "--clips", "1920", "--batch-size", "32", "--no-scaling"],
    "pipeline": ["pipeline.py", "--target", "report", "--warm", "--again"],
    "precision": ["feature_precision.py"],
}
TO_THE_ADAPTER = {"evaluate", "report", "render_sample"}  # rules that do not count


class Figure(NamedTuple):
    """A line of the table."""

    name: str
    unit: str
    source: str
    value: Callable[[dict], float]
    goal: float  # 0 for none
    higher: bool = True  # is better


def _seconds(found: dict, *rules: str) -> float:
    return sum(end - start for rule in rules for start, end in found["rules"].get(rule, []))


def _to_the_adapter(found: dict) -> float:
    return found["total"] - _seconds(found, *TO_THE_ADAPTER)


FIGURES = [
    Figure(
        "30 clips, from files to the adapter, warm caches",
        "s",
        "pipeline",
        lambda found: _to_the_adapter(found["warm"]),
        45,
        False,
    ),
    Figure("the same in the first run on a machine", "s", "pipeline", _to_the_adapter, 0, False),
    Figure(
        "report of its 6 test clips, three answers each",
        "s",
        "pipeline",
        lambda found: _seconds(found, "evaluate", "report"),
        0,
        False,
    ),
    Figure(
        "preflight of a second run with another learning rate",
        "s",
        "pipeline",
        lambda found: _seconds(found["again"], "preflight"),
        3,
        False,
    ),
    Figure("features", "clips/s", "features", lambda found: found["runs"][0]["clips_per_second"], 60),
    Figure("cores busy meanwhile", "%", "features", lambda found: 100 * found["runs"][0]["cores_busy"], 90),
    Figure("training within 8 GiB", "samples/s", "training", lambda found: found["within 8 GiB"]["rate"], 45),
    Figure("its memory", "GiB", "training", lambda found: found["within 8 GiB"]["used"], 8, False),
    Figure("training, memory free", "samples/s", "training", lambda found: found["all memory"]["rate"], 0),
    Figure("of the ceiling of bf16 products", "%", "training", lambda found: 100 * found["share"], 36),
    Figure("upstream's set-up", "samples/s", "training", lambda found: found["upstream"]["rate"], 0),
]


def measure(name: str, folder: Path) -> dict | None:
    """Run a benchmark, print what it prints, and return its figures; None if it failed."""
    script, *options = COMMANDS[name]
    output = folder / f"{name}.json"
    command = [sys.executable, str(HERE / script), *options, "--json", str(output)]
    started = time.monotonic()
    failed = subprocess.run(command).returncode
    print(f"{name}: {time.monotonic() - started:.0f} s{', failed' if failed else ''}\n", flush=True)
    return None if failed else json.loads(output.read_text())


def table(found: dict[str, dict | None]) -> str:
    """Return the table of what was measured."""
    lines = ["| figure | measured | goal | met |", "| --- | ---: | ---: | --- |"]
    for figure in FIGURES:
        if not (of_source := found.get(figure.source)):
            continue
        value = figure.value(of_source)
        goal = met = "-"
        if figure.goal:
            goal = f"{'at least' if figure.higher else 'at most'} {figure.goal:g}"
            met = "yes" if (value >= figure.goal if figure.higher else value <= figure.goal) else "no"
        lines.append(f"| {figure.name} | {value:.1f} {figure.unit} | {goal} | {met} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, help="keeps the figures as JSON here")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU: the goals are those of one; each benchmark has an option for a CPU")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = {name: measure(name, folder) for name in options.only}
    machine = f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {date.today()}"
    text = f"{machine}:\n\n{table(found)}\n"
    print(text)
    if options.write:
        README.write_text(TABLE.sub(lambda _: text, README.read_text()))
    sys.exit(any(figures is None for figures in found.values()))


if __name__ == "__main__":
    main()
