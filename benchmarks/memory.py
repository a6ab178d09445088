"""Predicted against measured peak memory of a training at nine configurations of the 0.5B geometry.

    python benchmarks/memory.py [--tiny] [--only ZeRO]

Each configuration is rehearsed as in the preflight: the real fine-tuning for a few steps on random features, in a
process of its own, on a base of random weights. Reserved is `torch.cuda.max_memory_reserved`. The driver's count, as in
nvidia-smi, includes the CUDA context and the libraries, and so does the prediction. DeepSpeed is off unless named.
``--tiny`` uses a small base and needs no GPU; it measures resident memory.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import torch
from random_base import make_base  # in this folder

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.memory import Step, longest_text, predicted_bytes
from mobilevideogpt.training.plan import plan_launch
from mobilevideogpt.training.preflight import EXAMPLE_SAMPLE, GB
from mobilevideogpt.training.rehearsal import rehearse
from mobilevideogpt.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
LONG = 1000  # tokens of text
CONFIGURATIONS = {  # what they change of config.yaml, and whether the text is long
    "1 clip": ({"batch_size": 1}, False),
    "1 clip, ZeRO-2": ({"batch_size": 1, "deepspeed": "zero2"}, False),
    "2 clips, LoRA r 16": ({"batch_size": 2, "lora_r": 16, "lora_alpha": 32}, False),
    "4 clips": ({}, False),
    "4 clips, checkpointing": ({"gradient_checkpointing": True}, False),
    f"4 clips, checkpointing, {LONG} tokens of text": ({"gradient_checkpointing": True}, True),
    "4 clips, checkpointing, all weights": ({"gradient_checkpointing": True, "method": "full"}, False),
    "1 clip, ZeRO-3 offloaded": ({"batch_size": 1, "deepspeed": "zero3_offload"}, False),
    "1 clip, all weights, ZeRO-3 offloaded": (
        {"batch_size": 1, "method": "full", "deepspeed": "zero3_offload"},
        False,
    ),
}


def with_long_text(sample: dict, processor: MobileVideoGPTProcessor) -> dict:
    """Return the sample with its question extended until the text has at least `LONG` tokens."""
    question, answer = (turn["value"] for turn in sample["conversations"])
    while sum(longest_text([sample], processor, 10**6)[1]) < LONG:
        question += " Keep the back straight."
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        sample = {**sample, "conversations": turns}
    return sample


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a small base in float32, for a CPU")
    parser.add_argument("--only", default="", help="part of the names of those to measure")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not gpu and not options.tiny:
        sys.exit("no GPU: only --tiny ends within the hour")
    logging.basicConfig(level=logging.ERROR)
    always = {"batch_size": 4, "processes": 1, "deepspeed": "none", "precision": "fp32" if options.tiny else "bf16"}
    print(f"{'GPU, ' * gpu}torch {torch.__version__}; GB of 10^9 bytes")
    print(f"{'configuration':48} {'predicted':>10} {'reserved':>10} {'driver':>10} {'error':>8} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        make_base(base, options.tiny)
        processor = MobileVideoGPTProcessor.from_pretrained(base)
        model = ModelPaths(str(base))
        for name, (changes, long) in CONFIGURATIONS.items():
            if options.only not in name:
                continue
            settings = TrainingSettings.from_dict(always | changes)
            sample = with_long_text(EXAMPLE_SAMPLE, processor) if long else EXAMPLE_SAMPLE
            _, text = longest_text([sample], processor, settings.max_text_tokens)
            step = Step(settings, plan_launch(settings), base, text, on_gpu=gpu)
            predicted = predicted_bytes(step)
            started = time.perf_counter()
            rehearsal = rehearse(step, model, sample, Path(folder), deepspeed_configs=ROOT / "config")
            seconds = time.perf_counter() - started
            if not (measured := rehearsal.measured):
                print(f"{name:48} {predicted / GB:10.2f} {rehearsal.message}", flush=True)
                continue
            reserved, taken = measured.reserved_bytes, measured.peak_bytes
            numbers = f"{predicted / GB:10.2f} {reserved / GB:10.2f} {taken / GB:10.2f} {predicted / taken - 1:+8.1%}"
            print(f"{name:48} {numbers} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
