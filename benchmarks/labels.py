"""Seconds and peak memory of filtering a full label file to the clips in use, beside `json.load` of that file.

    python benchmarks/labels.py   # 300,000 records, as many clips, or a hundredth of them

Each case runs in a process of its own, several times; cases alternate, and medians are printed. Linux only (/proc).
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mobilevideogpt.files import write_json
from mobilevideogpt.sample.exercises import EXERCISES

PLAIN = "import json; json.load(open('dataset/labels.json', encoding='utf-8'))"
FILTER = """
from mobilevideogpt.annotations.join import ground_truth, join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.files import write_records
import gc; gc.disable()
matched = join_labels(read_manifest({manifest!r}, "dataset"), read_labels("dataset/labels.json", "dataset"))
write_records(ground_truth(matched), "ground_truth.json")
"""
MEASURE = """
import re, time
started = time.perf_counter(), time.process_time()
exec({code!r})
print(time.perf_counter() - started[0], time.process_time() - started[1])
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def write_data(folder: Path, records: int) -> None:
    """Write labels as QEVD's full file holds them, and a manifest of all and of every hundredth clip."""
    draw = random.Random(0)
    labels, manifest = [], {}
    for i in range(records):
        exercise = draw.choice(list(EXERCISES))
        name, fault = exercise.replace("_", " "), draw.choice(EXERCISES[exercise].faults)
        labels.append(
            {
                "video_path": f"./{i:08d}.mp4",
                "labels": [f"{name} - {fault}"],
                "labels_descriptive": [f"{name} - The user shows this: {fault}. It is seen from the start on."],
                "split": draw.choice(["train", "test"]),
            }
        )
        manifest[f"{exercise}/{i:08d}.mp4"] = exercise
    write_json(labels, folder / "dataset/labels.json")
    write_json(manifest, folder / "all.json")
    write_json(dict(list(manifest.items())[::100]), folder / "some.json")


def measure(code: str, folder: Path) -> tuple[float, float, float]:
    """Run code in a process of its own: seconds without the interpreter's start, processor seconds, peak GiB."""
    command = [sys.executable, "-c", MEASURE.format(code=code)]
    seconds, busy, kib = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(busy), int(kib) / 2**20


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.records)
        size = (folder / "dataset/labels.json").stat().st_size / 1e6
        print(f"{options.records} records, {size:.0f} MB, {options.runs} runs each")
        cases = {
            "json.load": PLAIN,
            f"to {options.records // 100} clips": FILTER.format(manifest="some.json"),
            f"to {options.records} clips": FILTER.format(manifest="all.json"),
        }
        taken = [{case: measure(code, folder) for case, code in cases.items()} for _ in range(options.runs)]
    for case in cases:
        seconds, busy, gib = (statistics.median(run[case][i] for run in taken) for i in range(3))
        print(f"{case:>16}  {seconds:5.2f} s ({busy:5.2f} s of the processor)  {gib:4.2f} GiB")


if __name__ == "__main__":
    main()
