"""Kill each stage of the workflow, run the same command again, and compare all results with an uninterrupted run's.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--stages features,report] [--folder DIR]
    python benchmarks/kills.py --clones

The project is copied, with 12 drawn clips and the sample's tiny base. Each kill hits a stage of its own copy, at a
random moment: Snakemake, one of its jobs or a process below a job, by SIGKILL, SIGTERM or SIGINT. What differs between
two uninterrupted runs, such as seconds, is not compared; ``--verbose`` lists it. Files that the killed run left and an
uninterrupted one does not are counted as leftovers.

``--clones`` renders the sample and trains it in two fresh copies instead, and prints the digests of clips and adapters.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import psutil
import yaml
from pipeline import make_project  # in this folder

from mobilevideogpt.files import file_digest, json_digest
from mobilevideogpt.sample.render import write_sample

SETTINGS = {
    "run": "tiny",
    "model": {"base": "mobilevideogpt/sample/base", "video_encoder": None, "image_encoder": None},
    "features": {"dtype": "float32"},
    "preflight": {"allow_cpu": True, "min_free_disk_gb": 0.1},
    "finetune": {"epochs": 4, "batch_size": 2, "lora_r": 4, "precision": "fp32", "save_steps": 2, "num_workers": 0}
    | {"gradient_checkpointing": False, "deepspeed": "none"},
    "evaluate": {"max_new_tokens": 8},
}
STAGES = {  # in their order; each starts from what the one before has made
    "render": "render_sample",
    "checks": "annotations",
    "preflight": "preflight",
    "features": "features",
    "finetune": "finetune",
    "evaluate": "evaluate",
    "report": "report",
    "export": "export",
}
KILLS = [(victim, number) for number in ("SIGKILL", "SIGTERM", "SIGINT") for victim in ("Snakemake", "job", "worker")]
LINES = {".html", ".svg", ".csv", ".md", ".txt", ".yaml"}
SKIPPED = ("logs", "benchmarks", "stale", "previous", "tensorboard", ".lock", ".lock-holder.json")
# Keys of JSON, wherever they are. The bytes of a rehearsed adapter count the digits of the seconds in its record.
NOT_COMPARED = ("resumed_from", "this_run", "seconds", "adapter_bytes")
LOGS_WITH_SECONDS = ("/beside/log.jsonl/bytes", "/beside/trainer_state.json/bytes")  # sizes; contents are compared
END_SECONDS = 240


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start Snakemake in a group of its own; its output goes to a file, as its jobs may outlive it."""
    with open(folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(folder: Path, *arguments: str) -> float:
    """Run Snakemake to its end and return the seconds.

    Raises:
        SystemExit: If it failed; with the end of its output.
    """
    started = time.monotonic()
    if start(folder, *arguments).wait():
        sys.exit(f"{(folder / 'output.txt').read_text()[-6000:]}\n{folder}: {arguments} failed")
    return time.monotonic() - started


def copy(folder: Path, target: Path) -> Path:
    """Copy a project with its dates and with what Snakemake remembers."""
    return Path(shutil.copytree(folder, target, symlinks=True))


def results(folder: Path) -> dict[str, dict]:
    """Return the content of each result by its path: leaves of JSON, lines of text, else a digest."""
    files = [path for top in ("dataset", "results") for path in (folder / top).rglob("*") if path.is_file()]
    names = {path.relative_to(folder): path for path in sorted(files)}
    return {name.as_posix(): _content(path) for name, path in names.items() if not {*name.parts} & {*SKIPPED}}


def _content(path: Path) -> dict:
    with suppress(ValueError):
        if path.suffix == ".json":
            return dict(_leaves(json.loads(path.read_text())))
        if path.suffix == ".jsonl":
            return dict(_leaves([json.loads(line) for line in path.read_text().splitlines()]))
    if path.suffix in LINES:
        return dict.fromkeys(path.read_text().splitlines(), True)
    if path.suffix == ".safetensors":  # its metadata are in no order
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        return {"header": json.loads(content[8:end]), "tensors": hashlib.sha256(content[end:]).hexdigest()}
    return {"sha256": file_digest(path)}


def _leaves(value, where: str = ""):
    if isinstance(value, dict | list) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            if name not in NOT_COMPARED and f"{where}/{name}" not in LOGS_WITH_SECONDS:
                yield from _leaves(item, f"{where}/{name}")
    else:  # free disk and memory differ from call to call; a rehearsal that ended before the kill is used again
        yield where, re.sub(r"[\d.]+ GB( before)?", "GB", value) if isinstance(value, str) else value


def common(one: dict[str, dict], two: dict[str, dict]) -> dict[str, dict]:
    """Return what two uninterrupted runs have in common."""
    return {
        name: {item: value for item, value in content.items() if item in two[name] and two[name][item] == value}
        for name, content in one.items()
        if name in two
    }


def differences(expected: dict[str, dict], found: dict[str, dict]) -> list[str]:
    """List what a run lacks or has otherwise."""
    return [
        f"{name}: {item}: {value} > {found.get(name, {}).get(item)}"[:300]
        for name, content in expected.items()
        for item, value in (content or {"": None}).items()
        if name not in found or (content and (item not in found[name] or found[name][item] != value))
    ]


def kill(process: subprocess.Popen, victim: str, number: str, after: float) -> bool:
    """Send a signal to Snakemake, a job or a process below one, and return False if all had ended before."""
    deadline = time.monotonic() + after
    while process.poll() is None:
        time.sleep(0.01)
        if time.monotonic() < deadline:
            continue
        with suppress(psutil.Error):
            snakemake = psutil.Process(process.pid)
            jobs = snakemake.children()
            below = [child for job in jobs for child in job.children(recursive=True) if not child.children()]
            candidates = {"Snakemake": [snakemake], "job": jobs, "worker": below or jobs}[victim]
            if candidates:
                random.choice(candidates).send_signal(getattr(signal, number))
                return True
    return False


def killed(stage: str, before: Path, folder: Path, kind: tuple[str, str], after: float) -> str | None:
    """Kill a stage in a copy and run it again; return what went wrong, "" for nothing, None if it was too late."""
    shutil.rmtree(folder, ignore_errors=True)  # that of a call that was stopped
    copy(before, folder)
    process = start(folder, STAGES[stage])
    group = process.pid
    try:
        if not kill(process, *kind, after):
            return None
        if kind != ("Snakemake", "SIGKILL"):
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                return "did not end"
        process.wait()
        first = (folder / "output.txt").read_text()
        again = start(folder, STAGES[stage])
        if again.wait():
            return f"the same command failed:\n{first[-1500:]}\n---\n{(folder / 'output.txt').read_text()[-2500:]}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return ""


def make_clips(folder: Path) -> Path:
    """Return the project with clips, labels and settings, before any run."""
    project = folder / "project"
    if not project.exists():
        project.mkdir()
        make_project(project, {})
        settings = yaml.safe_load((project / "config.yaml").read_text())
        for name, value in SETTINGS.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        (project / "config.yaml").write_text(yaml.safe_dump(settings))
        write_sample(project / "dataset", clips_per_exercise=2)
    return project


def count_kills(options: argparse.Namespace, folder: Path) -> bool:
    """Print a line for each kill, and a table; return whether all ended equal."""
    chance = random.Random(options.seed)
    random.seed(options.seed)
    stages = options.stages.split(",") if options.stages else list(STAGES)
    project = make_clips(folder)
    before, lasts, expected, known = {}, {}, {}, {}
    for stage, target in STAGES.items():
        before[stage], done = project, folder / f"{stage}.json"
        if not done.exists():
            for name in ("one", "two"):
                shutil.rmtree(folder / f"{stage}-{name}", ignore_errors=True)
            one, two = copy(project, folder / f"{stage}-one"), copy(project, folder / f"{stage}-two")
            seconds = run(one, target)
            run(two, target)
            done.write_text(json.dumps({"seconds": seconds, "two": results(two)}))
            shutil.rmtree(two)
        project, reference = folder / f"{stage}-one", json.loads(done.read_text())
        lasts[stage], found, other = reference["seconds"], results(project), reference["two"]
        expected[stage], known[stage] = common(found, other), found.keys() | other.keys()
        items = sum(map(len, expected[stage].values()))
        print(f"{stage}: {lasts[stage]:.1f} s, {len(expected[stage])} files, {items} items compared", flush=True)
        if options.verbose:
            print(*(f"  not compared: {line}" for line in differences(found, other)), sep="\n")
    kills, equal, leftovers = Counter(), Counter(), Counter()
    number = 0
    while kills.total() < options.kills:
        stage = stages[number % len(stages)]
        kind = KILLS[(number // len(stages) + stages.index(stage)) % len(KILLS)]
        number += 1
        target, after = folder / "killed", chance.uniform(0.1, lasts[stage])
        problem = killed(stage, before[stage], target, kind, after)
        if problem is not None:
            kills[stage] += 1
            found = results(target)
            wrong = [] if problem else differences(expected[stage], found)
            more = sorted(found.keys() - known[stage])
            equal[stage] += not problem and not wrong
            leftovers[stage] += len(more)
            outcome = "equal" if not problem and not wrong else "NOT EQUAL"
            print(f"{kills.total()}: {stage}, {kind[1]} to {kind[0]} after {after:.1f} s: {outcome}", *more, flush=True)
            print("\n".join([problem, *wrong[:12]]), end="\n" if problem or wrong else "", flush=True)
        shutil.rmtree(target)
    print("\n| stage | kills | ended equal | leftovers |\n| --- | ---: | ---: | ---: |")
    for stage in stages:
        print(f"| {stage} | {kills[stage]} | {equal[stage]} | {leftovers[stage]} |")
    print(f"| all | {kills.total()} | {equal.total()} | {leftovers.total()} |")
    return kills == equal


def compare_clones(folder: Path) -> bool:
    """Render and train in two fresh copies; print the digests of clips and adapters, and whether they are equal."""
    digests = []
    for name in ("one", "two"):
        clone = folder / name
        clone.mkdir()
        make_project(clone, yaml.safe_load((Path(__file__).parents[1] / "config/sample.yaml").read_text()))
        seconds = run(clone, "finetune", "--config", "finetune={epochs: 2}")
        clips = {path.name: file_digest(path) for path in sorted((clone / "dataset/sample").rglob("*.mp4"))}
        adapter = file_digest(clone / "results/sample/finetune/adapter/adapter_model.safetensors")
        digests.append((json_digest(clips), adapter))
        print(f"{name}: {len(clips)} clips {digests[-1][0]}, adapter {adapter}, {seconds:.0f} s", flush=True)
    return digests[0] == digests[1]


def main() -> None:
    """Kill and compare, or compare clones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", help="names, with commas between; default: all")
    parser.add_argument("--folder", type=Path, help="keeps the uninterrupted runs here, for a later call")
    parser.add_argument("--clones", action="store_true", help="compare two fresh copies instead")
    parser.add_argument("--verbose", action="store_true", help="list what is not compared")
    options = parser.parse_args()
    compare = compare_clones if options.clones else partial(count_kills, options)
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        same = compare(Path(folder))
    sys.exit(not same)


if __name__ == "__main__":
    main()
