"""Trainings on one and on two GPUs at the same effective batch: speed, memory on each GPU, losses.

    python benchmarks/several_gpus.py [--ways ddp-bf16 zero2] [--method lora full] [--processes 1 2] [--steps 50]
                                      [--batch 4] [--limit 150] [--output FOLDER] [--tiny]

Each training is the command of rule finetune, on a base of random weights in the released geometry and on random
features, for one epoch, with a validation before and after it and a checkpoint; before it, its rehearsal as in the
preflight. ``speed`` is the median step's, ``ratio`` that to the same way on the fewest GPUs, and ``to ddp`` that to
``ddp-bf16`` there. The driver's count is the highest of each GPU, polled, without what was in use before. The largest
difference of a loss is that to ``ddp-bf16`` on the fewest GPUs. A way that fails prints the end of its error, and the
others follow. ``--output`` gets the table's values after each training, with the losses, and the logs. ``--tiny`` runs
a small base in processes on a CPU, in fp32 in place of bf16, and measures resident memory.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import torch
from random_base import make_base  # in this folder

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.machine import DriverError, driver_gpus, smallest_gpu_bytes, versions
from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import read_config
from mobilevideogpt.training.memory import Step, longest_text, predicted_bytes, shortest_text
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.preflight import EXAMPLE_SAMPLE
from mobilevideogpt.training.rehearsal import rehearse
from mobilevideogpt.training.settings import TrainingSettings
from mobilevideogpt.training.sharing import choose_stage

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "ddp-bf16": {"precision": "bf16", "deepspeed": "none"},
    "zero2": {"precision": "bf16", "deepspeed": "zero2"},
    "zero3": {"precision": "bf16", "deepspeed": "zero3"},
    "zero3_offload": {"precision": "bf16", "deepspeed": "zero3_offload"},
    "ddp-fp16": {"precision": "fp16", "deepspeed": "none"},
    "auto": {"precision": "bf16", "deepspeed": "auto"},
}
REFERENCE = "ddp-bf16"
FEATURES = 8  # files of random features, of which each sample has one
VALIDATION = 8  # clips
POLL_SECONDS = 0.05
HEADER = f"{'method':6} {'way':14} {'GPUs':>4} {'speed':>7} {'ratio':>6} {'to ddp':>6} {'start':>6} {'first':>6}"
HEADER += f" {'steps':>6} {'valid.':>6} {'saving':>6} {'whole':>6} {'rehears.':>8} {'predict.':>8} {'rehears.':>8}"
HEADER += f" {'driver, GB each':>16} {'reserved':>14} {'allocated':>14} {'last loss':>10} {'differ.':>8}"
UNITS = f"{'':26} {'clips/s':>7} {'':6} {'':6} {'s':>6} {'s':>6} {'s':>6} {'s':>6} {'s':>6} {'s':>6} {'s':>8} {'GB':>8}"
UNITS += f" {'GB':>8}"


class DriverPeaks:
    """Polls the memory that is in use on each GPU, as its driver counts it, while the ``with`` block runs."""

    def __init__(self):
        self.before, self.peaks = self._used(), self._used()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def _used(self) -> list[int]:
        try:
            return [gpu.memory_bytes - gpu.free_bytes for gpu in driver_gpus()]
        except DriverError:
            return []

    def _poll(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.peaks = [max(pair) for pair in zip(self.peaks, self._used(), strict=True)]

    def __enter__(self) -> "DriverPeaks":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def bytes(self) -> list[int]:
        """Return the peak of each GPU above what was in use before."""
        return [peak - before for peak, before in zip(self.peaks, self.before, strict=True)]


def make_data(folder: Path, train: int) -> None:
    """Write samples for ``train`` steps' clips and for the validation, their random features, and base.json."""
    model = ModelPaths(str(folder / "base"))
    config, store = read_config(model), FeatureStore(folder / "features")
    generator = torch.Generator().manual_seed(0)
    keys = [f"{number:064}" for number in range(FEATURES)]
    for key in keys:
        shapes = config.feature_shapes.items()
        store.write(key, {name: torch.randn(shape, generator=generator).half() for name, shape in shapes})
    question, answer = EXAMPLE_SAMPLE["conversations"]
    for name, count in (("train", train), ("val", VALIDATION)):
        samples = []
        for number in range(count):
            faults = " and the heels leave the floor," * (number % 12)  # texts of many lengths
            words = {**answer, "value": f"{number} squats - not deep enough,{faults} again"}
            clip = {"video": f"{name}/{number}.mp4", "exercise": "squats", "features": keys[number % FEATURES]}
            samples.append({**clip, "conversations": [question, words]})
        (folder / f"{name}.json").write_text(json.dumps(samples))
    base = {"base": model.base, "video_encoder": None, "image_encoder": None, "files": {}, "encoders_digest": ""}
    (folder / "base.json").write_text(json.dumps(base))


def run_within(command: list[str], log: Path, limit: float) -> str | None:
    """Run a command for at most ``limit`` seconds, its output in ``log``; return the end of an error, or None."""
    environment = {"HF_HUB_OFFLINE": "1", **os.environ}
    with open(log, "w") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            status = process.wait(limit)
        except psutil.TimeoutExpired:
            family = [process, *process.children(recursive=True)]
            for one in family:
                with suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(family, 10)
            return f"stopped after {limit:g} s; {_end(log)}"
    return f"status {status}; {_end(log)}" if status else None


def _end(log: Path, lines: int = 3) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])


class Bench:
    """One base, one set of samples, many trainings."""

    def __init__(self, folder: Path, output: Path, options: argparse.Namespace):
        self.folder, self.output, self.options = folder, output, options
        self.gpu = torch.cuda.is_available() and not options.tiny
        self.rows: list[dict] = []

    def measure(self, method: str, way: str, processes: int) -> None:
        """Rehearse, train, print a row, and write all rows."""
        changes = {"method": method, "epochs": 1, "batch_size": self.options.batch, "processes": processes}
        changes |= {"save_steps": 10**6, "report_to": [], "lora_dropout": self.options.dropout, **WAYS[way]}
        if self.options.tiny:  # a CPU may emulate bf16, which takes minutes a step
            changes |= {"num_workers": 0, "precision": changes["precision"].replace("bf16", "fp32")}
        row = {"method": method, "way": way, "processes": processes}
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            try:
                settings = TrainingSettings.from_dict(changes)
                if not self.options.no_rehearsal:
                    row |= self._rehearse(settings, Path(place))
                row |= self._train(settings, Path(place), f"{method}-{way}-{processes}")
            except Exception as error:  # a broken way must not end the others
                row["error"] = f"{type(error).__name__}: {error}"
        self.rows.append(row)
        self._print(row)
        facts: dict = {
            "options": {name: str(value) for name, value in vars(self.options).items()},
            "versions": versions(),
        }
        with suppress(DriverError):
            facts["gpus"] = [gpu.name for gpu in driver_gpus()]
        text = json.dumps({**facts, "cores": os.cpu_count(), "trainings": self.rows}, indent=1)
        (self.output / "several_gpus.json").write_text(text)

    def _rehearse(self, settings: TrainingSettings, place: Path) -> dict:
        model = ModelPaths(str(self.folder / "base"))
        processor = MobileVideoGPTProcessor.from_pretrained(model.base)
        samples = json.loads((self.folder / "train.json").read_text())
        longest, text = longest_text(samples, processor, settings.max_text_tokens)
        shortest, _ = shortest_text(samples, processor)
        step = Step(settings, self._launch(settings), model.base, text, self.gpu)
        step = choose_stage(step, smallest_gpu_bytes(step.launch.processes))
        started = time.monotonic()
        with DriverPeaks() as peaks:
            options = {"shortest": shortest, "deepspeed_configs": ROOT / "config"}
            rehearsal = rehearse(step, model, longest, place, **options)
        return {
            "predicted_bytes": predicted_bytes(step),
            "rehearsal_seconds": time.monotonic() - started,
            "rehearsed": asdict(rehearsal),
            "rehearsed_bytes": rehearsal.measured and rehearsal.measured.peak_bytes,
            "rehearsal_driver_bytes": peaks.bytes(),
        }

    def _launch(self, settings: TrainingSettings) -> Launch:
        stage = settings.deepspeed  # auto begins without a stage, see `choose_stage`
        return Launch(settings.processes or 1, None if stage in ("auto", "none") else stage)

    def _train(self, settings: TrainingSettings, place: Path, name: str) -> dict:
        run, log = place / "run", self.output / f"{name}.log"
        arguments = {
            "--configuration": json.dumps({"finetune": asdict(settings)}),
            **{f"--{split}": self.folder / f"{split}.json" for split in ("train", "val")},
            "--features": self.folder / "features",
            "--base": self.folder / "base.json",
            "--run-folder": run,
            "--output": run / "train.json",
            "--log": self.output / f"{name}.records.log",
            "--digest": "benchmark",
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        started = time.monotonic()
        with DriverPeaks() as peaks:
            script = str(ROOT / "workflow_scripts/finetune.py")
            error = run_within([sys.executable, script, *words], log, self.options.limit)
        whole = time.monotonic() - started
        if error:
            return {"error": error, "whole_seconds": whole, "driver_bytes": peaks.bytes()}
        record = json.loads((run / "train.json").read_text())
        entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        return {
            "whole_seconds": whole,
            "driver_bytes": peaks.bytes(),
            "deepspeed": record["deepspeed"],
            "batch": record["batch"],
            "this_run": record["this_run"],
            "losses": [entry["loss"] for entry in entries if "loss" in entry],
            "validation_losses": [entry["eval_loss"] for entry in entries if "eval_loss" in entry],
            "files": {path.name: path.stat().st_size for path in sorted(run.glob("checkpoint-*/*"))},
        }

    def _print(self, row: dict) -> None:
        line = f"{row['method']:6} {row['way']:14} {row['processes']:4}"
        if "error" in row:
            print(f"{line} FAILED after {row.get('whole_seconds', 0):.0f} s: {row['error']}", flush=True)
            if (rehearsed := row.get("rehearsed")) and rehearsed["message"]:
                print(f"{'':26} its rehearsal: {rehearsed['message']}", flush=True)
            return
        this, parts = row["this_run"], row["this_run"]["seconds_of"]
        row["start_seconds"] = row["whole_seconds"] - sum(parts[name] for name in parts if name != "start_and_end")
        seconds = [row["start_seconds"], *(parts[n] for n in ("first_step", "other_steps", "validation"))]
        seconds += [parts["checkpoints"], row["whole_seconds"]]
        speed, differs = this["samples_per_second"], self._difference(row)
        same, ddp = self._speed_before(row["method"], row["way"]), self._speed_before(row["method"], REFERENCE)
        ratios = [f"{speed / other:6.2f}" if speed and other else f"{'-':>6}" for other in (same, ddp)]
        each = {n: [p.get(f"{n}_bytes") for p in this["processes"]] for n in ("reserved", "allocated")}
        print(
            f"{line} {speed or 0:7.2f} {' '.join(ratios)} {' '.join(f'{value:6.1f}' for value in seconds)}"
            f" {row.get('rehearsal_seconds', 0):8.1f} {_gb([row.get('predicted_bytes')]):>8}"
            f" {_gb([row.get('rehearsed_bytes')]):>8} {_gb(row['driver_bytes']):>16} {_gb(each['reserved']):>14}"
            f" {_gb(each['allocated']):>14} {row['losses'][-1]:10.4f} {differs:>8}",
            flush=True,
        )
        if (rehearsed := row.get("rehearsed")) and rehearsed["message"]:
            print(f"{'':26} its rehearsal: {rehearsed['message']}", flush=True)

    def _find(self, method: str, way: str) -> dict | None:
        fewest = min(self.options.processes)
        wanted = (method, way, fewest)
        rows = (row for row in self.rows if (row["method"], row["way"], row["processes"]) == wanted)
        return next((row for row in rows if "error" not in row), None)

    def _speed_before(self, method: str, way: str) -> float | None:
        row = self._find(method, way)
        return row["this_run"]["samples_per_second"] if row else None

    def _difference(self, row: dict) -> str:
        if not (reference := self._find(row["method"], REFERENCE)):
            return "-"
        pairs = zip(row["losses"], reference["losses"], strict=True)
        return f"{max(abs(loss - other) for loss, other in pairs):.4f}"


def _gb(sizes: list) -> str:
    return ", ".join(f"{size / 1e9:.2f}" if size is not None else "-" for size in sizes) or "-"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[way for way in WAYS if way != "auto"])
    parser.add_argument("--method", nargs="+", choices=("lora", "full"), default=["lora", "full"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="numbers of GPUs")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4, help="clips of a step, over all GPUs together")
    parser.add_argument("--dropout", type=float, default=0.05, help="of LoRA; 0 makes losses comparable")
    parser.add_argument("--limit", type=float, default=150, help="seconds for one training")
    parser.add_argument("--no-rehearsal", action="store_true")
    parser.add_argument("--output", type=Path, help="folder for several_gpus.json and the logs")
    parser.add_argument("--tiny", action="store_true", help="a small base, for a CPU")
    options = parser.parse_args()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus and not options.tiny:
        sys.exit("no GPU: only --tiny ends within the hour")
    if gpus and max(options.processes) > gpus:
        sys.exit(f"--processes: there are {gpus} GPUs")
    os.environ["NCCL_NVLS_ENABLE"] = "0"  # multicast over NVLink
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary), options.output or Path(temporary, "logs")
        output.mkdir(parents=True, exist_ok=True)
        make_base(folder / "base", options.tiny, FRAMES_PER_CHUNK if options.tiny else None)
        make_data(folder, options.steps * options.batch)
        name = torch.cuda.get_device_name() if gpus else "CPU"
        print(f"{gpus or ''} {name}, torch {torch.__version__}, {options.steps} steps of {options.batch} clips")
        print(f"{HEADER}\n{UNITS}", flush=True)
        bench = Bench(folder, output, options)
        for method in options.method:
            for way in options.ways:
                for processes in options.processes:
                    bench.measure(method, way, processes)
    if any("error" in row for row in bench.rows):
        sys.exit("some trainings failed, see above")


if __name__ == "__main__":
    main()
