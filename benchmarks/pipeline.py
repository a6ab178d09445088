"""The whole pipeline once at the real size: seconds a stage, from drawing the 30 sample clips to the adapter.

    python benchmarks/pipeline.py [--cores 16] [--epochs 10] [--target report] [--again] [--folder DIR]
        [--warm] [--tiny] [--json FILE]

Copies the project, so that a user's files stay untouched, and runs `snakemake finetune` there with the settings of
config.yaml, on the clips of the sample and a base of random weights in the released geometry and the official layout.
Prints jobs and seconds of each rule from Snakemake's metadata, samples a second and peak memory of the training, and
the predictions of the preflight. ``--warm`` deletes all results but the remembered rehearsal and runs to the adapter
again, with kernels compiled and libraries in memory. ``--again`` trains a second run with another learning rate, which
finds clips, features and rehearsals of the first. ``--tiny`` uses a small base and needs no GPU.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import yaml
from random_base import make_base  # in this folder

ROOT = Path(__file__).resolve().parents[1]
CODE = ("Snakefile", "config.yaml", "config", "environment.yml", "mobilevideogpt", "profiles", "rules")
CODE += ("snakemake_logger_plugin_stages", "workflow_scripts")
RUN = "real_size"
TINY = {
    "preflight": {"allow_cpu": True, "min_free_disk_gb": 0.5},
    "finetune": {"epochs": 1, "precision": "fp32", "gradient_checkpointing": False, "num_workers": 0},
}


def make_project(folder: Path, settings: dict) -> None:
    """Copy the code, and put ``settings`` in place of the sample's changes to config.yaml."""
    for name in CODE:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    (folder / "config/sample.yaml").write_text(yaml.safe_dump(settings))


def snakemake(folder: Path, cores: str, target: str, *config: str) -> float:
    """Run the workflow to a target, with settings as ``--config`` takes them, and return the seconds.

    Raises:
        SystemExit: If it failed; with the end of its output.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", cores, target, *(["--config", *config] if config else [])]
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        # As `make` does, Python keeps its bytecode.
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-8000:]}\n{' '.join(command)} failed in {folder}")
    return time.perf_counter() - started


def jobs_by_rule(folder: Path, since: float = 0) -> dict[str, list[tuple[float, float]]]:
    """Return start and end of each job by its rule, in the order of the first starts; from Snakemake's metadata.

    Jobs that started before ``since``, in seconds since the epoch, are left out.
    """
    jobs = {}
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if path.is_file():
            entry = json.loads(path.read_text())
            key = (entry["rule"], entry["job_hash"])  # one entry per file; a job may write several
            start, end = jobs.get(key, (entry["starttime"], entry["endtime"]))
            jobs[key] = (min(start, entry["starttime"]), max(end, entry["endtime"]))
    rules = defaultdict(list)
    for (rule, _), times in sorted(jobs.items(), key=lambda item: item[1]):
        if times[0] >= since:
            rules[rule].append(times)
    return dict(rules)


def print_stages(rules: dict[str, list[tuple[float, float]]], total: float) -> None:
    """Print a line a rule, and what is left of ``total`` for Snakemake itself."""
    print(f"{'rule':20} {'jobs':>5} {'seconds of work':>16} {'from start to end':>18}")
    covered, until = 0.0, 0.0
    for rule, times in rules.items():
        work, span = sum(end - start for start, end in times), max(end for _, end in times) - times[0][0]
        print(f"{rule:20} {len(times):5} {work:16.1f} {span:18.1f}")
    for start, end in sorted(times for jobs in rules.values() for times in jobs):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    print(f"{'planning, starting':20} {'':5} {'':16} {total - covered:18.1f}")
    print(f"{'total':20} {'':5} {'':16} {total:18.1f}")


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cores", default=str(os.cpu_count()))
    parser.add_argument("--target", default="finetune", choices=("finetune", "report"))
    parser.add_argument("--epochs", type=int, help="instead of those in config.yaml")
    parser.add_argument(
        "--folder", type=Path, help="where to work, and leave all that is made; by default a temporary one"
    )
    parser.add_argument("--again", action="store_true", help="then another run, with another learning rate")
    parser.add_argument("--warm", action="store_true", help="then the same from the files on, with warm caches")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--tiny", action="store_true", help="a small base in float32 for one epoch, for a CPU")
    options = parser.parse_args()
    if importlib.util.find_spec("snakemake") is None:
        sys.exit(f"{sys.executable} has no snakemake: install the project's requirements first")
    settings = {"run": RUN, "model": {"base": "base", "video_encoder": None, "image_encoder": None}}
    settings |= TINY if options.tiny else {}
    if options.epochs:
        settings["finetune"] = {**settings.get("finetune", {}), "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        if (folder / "Snakefile").exists():
            sys.exit(f"{folder}: something was made here before; give an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        make_project(folder, settings)
        started = time.perf_counter()
        make_base(folder / "base", options.tiny)
        size = (folder / "base/model.safetensors").stat().st_size
        print(f"random base, {size / 1e9:.2f} GB, made in {time.perf_counter() - started:.1f} s", flush=True)
        total = snakemake(folder, options.cores, options.target)
        results = folder / "results/sample"
        preflight = json.loads((results / "preflight.json").read_text())
        train = json.loads((results / RUN / "train.json").read_text())
        log = json.loads((results / RUN / train["logs"]["state"]).read_text())["log_history"]
        print(f"{train['this_run']['device']}, {options.cores} cores; {train['versions']}")
        rules = jobs_by_rule(folder)
        print_stages(rules, total)
        figures = {"total": total, "rules": rules, "this_run": train["this_run"]}
        write_figures(figures, options.json)
        print_training(train, preflight, next(entry["train_runtime"] for entry in log if "train_runtime" in entry))
        if options.warm:
            for path in results.iterdir():
                if path.name != "preflight.rehearsal.json":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            figures["warm"] = run_more(folder, options, "from the files on, with warm caches")
            write_figures(figures, options.json)
        if options.again:
            settings = ("run=again", "finetune={learning_rate: 1.0e-4}")
            figures["again"] = run_more(folder, options, "again, with another learning rate", *settings)
            write_figures(figures, options.json)


def write_figures(figures: dict, path: Path | None) -> None:
    """Write what was measured so far, if a file is asked for: the next run may fail or be cut off."""
    if path:
        path.write_text(json.dumps(figures, indent=1) + "\n")


def run_more(folder: Path, options: argparse.Namespace, what: str, *config: str) -> dict:
    """Run the workflow once more, print its stages, and return them."""
    started = time.time()
    total = snakemake(folder, options.cores, "finetune", *config)
    rules = jobs_by_rule(folder, started)
    print(f"\n{what}")
    print_stages(rules, total)
    return {"total": total, "rules": rules}


def print_training(train: dict, preflight: dict, seconds: float) -> None:
    """Print speed, memory and losses; ``seconds`` are those of the steps, the validation and the checkpoints."""
    samples, batch = train["clips"]["train"] * train["epochs"], train["batch"]
    print(
        f"training: {train['steps']} steps of {batch['accumulation']} x {batch['micro']} clips, {samples:.0f} samples "
        f"in {seconds:.1f} s with validation and checkpoints, {samples / seconds:.2f} samples/s; with loading and "
        f"writing {train['this_run']['seconds']} s; DeepSpeed {train['deepspeed'] or 'off'}"
    )
    predicted, rehearsed = preflight["predicted_bytes"] / 1e9, preflight["rehearsed_bytes"] / 1e9
    beside = "" if preflight["device"] == "cpu" else ", the CUDA context included"
    print(
        f"memory: predicted {predicted:.2f} GB, rehearsed {rehearsed:.2f} GB ({predicted / rehearsed - 1:+.1%}){beside}"
        f"; torch reserved {train['this_run']['peak_memory_bytes'] / 1e9:.2f} GB in the training"
    )
    print(f"losses: {train['losses']}")


if __name__ == "__main__":
    main()
