"""Count the killed trainings (SIGKILL) that end bit for bit as an uninterrupted one.

    python benchmarks/killed_trainings.py [--kills 30] [--seed 0]

A tiny checkpoint is fine-tuned on random features on the CPU, with a checkpoint after every step. Each kill hits a
training of its own: a third at any moment, a third during the writing of a checkpoint, and a third during the writing
of the adapters. The training is then started again, as the same command would. Its files are compared with those of an
uninterrupted run: both adapters, and the adapter, optimiser, schedule and random states of the last checkpoint. The
processes are forked, so that they need not import torch.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.settings import TrainingSettings

SAMPLE = Path(__file__).resolve().parents[1] / "mobilevideogpt" / "sample" / "base"  # its tokenizer is used
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY |= {"num_key_value_heads": 1, "video_hidden_size": 16, "video_num_layers": 1, "video_num_frames": 4}
TINY |= {"image_hidden_size": 16, "image_intermediate_size": 16, "image_num_layers": 2, "image_num_heads": 2}
TINY |= {"num_frames": 8, "bos_token_id": None}
SETTINGS = TrainingSettings(
    epochs=2,
    batch_size=2,
    lora_r=4,
    precision="fp32",
    gradient_checkpointing=False,
    deepspeed="none",
    num_workers=0,
    save_steps=1,
    report_to=[],
)
CLIPS = 6  # for training; two more for validation
MOMENTS = {"any": None, "checkpoint": ".checkpoint-*", "adapter": ".adapter*"}  # a file that exists during the writing
COMPARED = (
    *("adapter/adapter_model.safetensors", "adapter-best/adapter_model.safetensors"),
    *("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"),  # of the last checkpoint
)


class Project:
    """A tiny random checkpoint and random features of a few clips, below ``folder``."""

    def __init__(self, folder: Path):
        self.folder, self.base, self.store = folder, folder / "base", FeatureStore(folder / "features")
        torch.manual_seed(0)
        processor = MobileVideoGPTProcessor.from_pretrained(SAMPLE, min_frames=8, max_frames=8)
        processor.save_pretrained(self.base)
        sample = MobileVideoGPTConfig.from_pretrained(SAMPLE)
        config = MobileVideoGPTConfig(
            **TINY, **{name: getattr(sample, name) for name in ("vocab_size", "video_token_id", "eos_token_id")}
        )
        MobileVideoGPTForConditionalGeneration(config).save_pretrained(self.base)
        shapes = config.feature_shapes
        self.samples = []
        for n in range(CLIPS + 2):
            video, key = f"dataset/squats/{n}.mp4", f"{n:064}"
            self.store.write(key, {name: torch.randn(shape) for name, shape in shapes.items()})
            turns = [{"from": "human", "value": "<video>\nHow is it?"}, {"from": "gpt", "value": f"squats - {n} times"}]
            self.samples.append({"video": video, "conversations": turns, "features": key})

    def train(self, run: Path) -> None:
        """Fine-tune, or resume; the output goes to a file beside ``run``."""
        with open(run.with_suffix(".log"), "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        torch.set_num_threads(1)
        finetune(
            SETTINGS,
            model=ModelPaths(str(self.base)),
            train=self.samples[:CLIPS],
            val=self.samples[CLIPS:],
            store=self.store,
            run_folder=run,
            digest="kills",
        )

    def start(self, run: Path) -> multiprocessing.Process:
        """Start a training in a process of its own."""
        process = multiprocessing.get_context("fork").Process(target=self.train, args=(run,))
        process.start()
        return process


def files_of(run: Path) -> dict[str, object]:
    """Return the files of a finished training, and the entries of its log without the last, which has the seconds."""
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    found = {name: (run if "/" in name else last) / name for name in COMPARED}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {name: path.read_bytes() for name, path in found.items()} | {"log": log[:-1]}


def kill(process: multiprocessing.Process, run: Path, pattern: str | None, seconds: float) -> bool:
    """Kill the training after ``seconds``, counted from the first file of ``pattern``; return False if it had ended."""
    while pattern and process.is_alive() and not any(run.glob(pattern)):
        time.sleep(0.0005)
    process.join(seconds)
    if not process.is_alive():
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def main() -> None:
    """Kill, start again, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        started = time.monotonic()
        whole = project.start(project.folder / "whole")
        whole.join()
        lasts = time.monotonic() - started
        expected = files_of(project.folder / "whole")
        print(f"uninterrupted: {len(expected['log'])} entries in the log, {lasts:.1f} s")
        equal = kills = drawn = 0
        while kills < options.kills:
            moment = list(MOMENTS)[kills % len(MOMENTS)]
            run = project.folder / f"run-{drawn}"
            drawn += 1
            pattern = MOMENTS[moment]
            if moment == "checkpoint" and (skip := chance.randrange(len(expected["log"]) - 4)):
                pattern = f".checkpoint-{skip}-*"  # of any step, not always the first
            seconds = chance.uniform(0, lasts if pattern is None else 0.05)
            if not kill(project.start(run), run, pattern, seconds):
                continue  # it ended before
            kills += 1
            remains = [path.name.rsplit("-", 1)[0] for path in run.glob(".*-*") if path.is_dir()]
            again = project.start(run)
            again.join()
            same = again.exitcode == 0 and files_of(run) == expected
            resumed = (
                json.loads((run / "adapter/train.json").read_text())["resumed_from"] if not again.exitcode else "?"
            )
            equal += same
            half = f", half-written: {', '.join(remains)}" if remains else ""
            print(
                f"kill {kills} ({moment}): resumed from {resumed}{half}: {'equal' if same else 'NOT EQUAL'}", flush=True
            )
            if not same:
                print(run.with_suffix(".log").read_text()[-2000:])
    print(f"{equal} of {kills} killed trainings ended bit for bit as the uninterrupted one")
    sys.exit(equal != kills)


if __name__ == "__main__":
    main()
