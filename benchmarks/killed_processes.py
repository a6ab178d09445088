"""Kill each kind of process of a training on several GPUs, run the same command again, and compare the adapters.

    python benchmarks/killed_processes.py [--processes 2] [--deepspeed auto] [--victims rank launcher job Snakemake]
        [--folder DIR] [--tiny]

Runs the workflow on the sample's clips and a base of random weights. Each kill (SIGKILL) hits a run of its own, once it
has saved checkpoints, and must leave no process. If a resumed adapter is not equal to the uninterrupted run's, another
uninterrupted one shows how far equal runs differ here. At last the test clips are answered on all GPUs and on one, and
the answers are compared. ``--folder`` keeps the project for a later call. ``--tiny`` uses a small base on a CPU.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import torch
from pipeline import TINY, make_project  # in this folder
from random_base import make_base  # in this folder
from safetensors.torch import load_file

VICTIMS = ("rank", "launcher", "job", "Snakemake")
EPOCHS = 6
EVALUATE = {"batch_size": 1, "max_new_tokens": 24}  # several batches, so that all GPUs answer
KILL_AT = 2  # checkpoints
END_SECONDS = 90  # for the rest to notice


def start(folder: Path, run: str, *arguments: str, **environment: str) -> subprocess.Popen:
    """Start Snakemake; its output goes to output.txt, as its jobs may outlive it."""
    with open(folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "all", *arguments, "--config", f"run={run}"],
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment, "PYTHONPATH": _path(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _path(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def finish(folder: Path, run: str, *arguments: str, **environment: str) -> float:
    """Run Snakemake to its end and return the seconds.

    Raises:
        SystemExit: If it failed; with the end of its output.
    """
    started = time.monotonic()
    if start(folder, run, *arguments, **environment).wait():
        sys.exit(f"{(folder / 'output.txt').read_text()[-6000:]}\n{folder}: {arguments} of {run} failed")
    return time.monotonic() - started


def adapter(folder: Path, run: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a run's last adapter."""
    record = json.loads((folder / f"results/sample/{run}/train.json").read_text())
    return load_file(folder / f"results/sample/{run}" / record["adapter"] / "adapter_model.safetensors")


def difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of a weight; 0 only if all are equal.

    Raises:
        SystemExit: If they have other names.
    """
    if one.keys() != two.keys():
        sys.exit("the adapters have other tensors")
    return max((one[name].double() - two[name].double()).abs().max().item() for name in one)


def of_project(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def choose(snakemake: subprocess.Popen, victim: str) -> psutil.Process:
    """Return the process to kill: the last rank, its launcher, the job that started that, or Snakemake."""
    below = psutil.Process(snakemake.pid).children(recursive=True)
    training = [process for process in below if "RANK" in process.environ()]
    ranks = [process for process in training if process.parent() not in training]  # the others read for these
    launcher = ranks[0].parent()
    job = launcher and launcher.parent()
    assert launcher and job
    last = max(ranks, key=lambda process: int(process.environ()["RANK"]))
    return {"rank": last, "launcher": launcher, "job": job, "Snakemake": psutil.Process(snakemake.pid)}[victim]


def kill(folder: Path, run: str, victim: str) -> str:
    """Kill one process of a training that has saved checkpoints; return what outlived it, and when all had ended.

    Raises:
        SystemExit: If the training ended before.
    """
    snakemake = start(folder, run, "finetune")
    checkpoints = folder / f"results/sample/{run}"
    while len(list(checkpoints.glob("checkpoint-*"))) < KILL_AT:
        time.sleep(0.02)
        if snakemake.poll() is not None:
            sys.exit(f"{(folder / 'output.txt').read_text()[-6000:]}\n{run} ended before it could be killed")
    chosen = choose(snakemake, victim)
    chosen.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    snakemake_ended = False
    while (left := of_project(folder)) and time.monotonic() - killed < END_SECONDS:
        snakemake_ended = snakemake_ended or snakemake.poll() is not None
        time.sleep(0.1)
    for process in left:
        process.kill()
    snakemake.wait()
    names = ", ".join(" ".join(process.cmdline()[:4]) for process in left)
    return f"OUTLIVED by {names}" if left else f"all ended after {time.monotonic() - killed:.1f} s"


def compare_answers(folder: Path, run: str) -> bool:
    """Evaluate on all GPUs and on one; print and return whether the answers are equal."""
    answers = []
    for visible in ({}, {"CUDA_VISIBLE_DEVICES": "0"}):
        seconds = finish(folder, run, "evaluate", "--forcerun", "evaluate", **visible)
        lines = (folder / f"results/sample/{run}/predictions.jsonl").read_text().splitlines()
        answers.append([json.loads(line) for line in lines])
        print(f"evaluation on {'one GPU' if visible else 'all GPUs'}: {seconds:.1f} s", flush=True)
    different = [one["video"] for one, two in zip(*answers, strict=True) if one != two]
    print(f"{len(answers[0])} test clips, of which {len(different)} have other answers", *different, flush=True)
    return not different


def main() -> None:
    """Train, kill, train again, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--deepspeed", default="auto")
    parser.add_argument("--victims", nargs="*", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--folder", type=Path, help="works here, and keeps all")
    parser.add_argument("--no-answers", action="store_true", help="do not compare answers")
    parser.add_argument("--tiny", action="store_true", help="a small base, for a CPU")
    options = parser.parse_args()
    os.environ["NCCL_NVLS_ENABLE"] = "0"  # multicast over NVLink
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        if not (folder / "Snakefile").exists():
            folder.mkdir(parents=True, exist_ok=True)
            finetune = {"epochs": EPOCHS, "processes": options.processes, "deepspeed": options.deepspeed}
            finetune = (TINY["finetune"] if options.tiny else {}) | finetune
            model = {"base": "base", "video_encoder": None, "image_encoder": None}
            settings = {"model": model, "finetune": finetune, "evaluate": EVALUATE}
            settings |= {"preflight": TINY["preflight"]} if options.tiny else {}
            make_project(folder, settings)
            make_base(folder / "base", options.tiny)
        print(f"uninterrupted: {finish(folder, 'whole', 'finetune'):.1f} s", flush=True)
        whole = adapter(folder, "whole")
        equal, ended = True, True
        for victim in options.victims:
            run = f"killed_{victim.lower()}"
            outcome = kill(folder, run, victim)
            seconds = finish(folder, run, "finetune")
            resumed = json.loads((folder / f"results/sample/{run}/train.json").read_text())["resumed_from"]
            most = difference(whole, adapter(folder, run))
            equal, ended = equal and not most, ended and "OUTLIVED" not in outcome
            print(f"{victim} killed: {outcome}; again {seconds:.1f} s, resumed from step {resumed};", end=" ")
            print(
                "its adapter is equal" if not most else f"the largest difference of a weight is {most:.2g}", flush=True
            )
        if not equal:
            finish(folder, "twice", "finetune")
            most = difference(whole, adapter(folder, "twice"))
            print(f"two uninterrupted runs: the largest difference of a weight is {most:.2g}", flush=True)
        same = options.no_answers or compare_answers(folder, "whole")
    sys.exit(not (ended and same))


if __name__ == "__main__":
    main()
