"""Seconds from a file to an answer of 32 tokens, and memory, by the precision of the language model.

    python benchmarks/answer.py [--tokens 32] [--run results/sample/finetune --clips dataset/sample]

Random weights of the released geometry, with an adapter of the default rank beside them (``auto``) or merged into them
(a chosen precision), about one real clip of five seconds, on a GPU if there is one. Loading is not counted. ``--run``
answers about the clips of a trained run, too, and says how many of the answers are others than those of ``auto``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from features import CLIP  # in this folder
from generation import PeakMemory
from random_base import make_base

from mobilevideogpt.evaluation.generation import generate_answers
from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.serving.finetuned import Finetuned, find_finetuned
from mobilevideogpt.serving.pipeline import Pipeline
from mobilevideogpt.serving.questions import clips_named
from mobilevideogpt.video.frames import clip_frames

PRECISIONS = ("auto", "fp32", "bf16")
PROMPT = "<video>\nWhat does the person do well, and what should change?"


def measure(base: str, precision: str, tokens: int) -> dict[str, float]:
    """Return the seconds of reading, encoding, the first token and the others, and the peak memory in bytes."""
    with PeakMemory("cuda" if torch.cuda.is_available() else "cpu") as memory:
        pipeline = Pipeline(Finetuned("random", ModelPaths(base)), precision)
        if precision == "auto":
            pipeline.model = add_lora(pipeline.model, r=64, lora_alpha=128, lora_dropout=0.0).eval()
        for _ in range(2):  # the first warms up
            stamps = [time.perf_counter()]
            frames = clip_frames(str(CLIP), None, *pipeline.bounds)
            stamps.append(time.perf_counter())
            features = [pipeline.see([frames])[0].features]
            stamps.append(time.perf_counter())
            for limit in (1, tokens):
                [answer] = generate_answers(pipeline.model, pipeline.processor, [PROMPT], features, limit)
                stamps.append(time.perf_counter())
            if answer.tokens != tokens:
                raise SystemExit(f"the answer has {answer.tokens} tokens, not {tokens}")
    read, encoded, first, whole = (end - start for start, end in pairwise(stamps))
    return {"reading": read, "encoding": encoded, "first": first, "others": whole - first, "peak": memory.peak}


def answers(run: str, clips: list[str], precision: str) -> list[str]:
    """Return the answers of a trained run about clips."""
    pipeline = Pipeline(find_finetuned(run, download=False), precision)
    return pipeline(clips)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--tiny", action="store_true", help="a small base, for a try")
    parser.add_argument("--run", help="a trained run")
    parser.add_argument("--clips", nargs="+", default=[], help="clips to ask it about")
    parser.add_argument("--one", nargs=2, metavar=("BASE", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:  # in a process of its own, for its memory
        print(json.dumps(measure(*options.one, options.tokens)))
        return
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}; from a clip of 145 frames to {options.tokens} tokens, in seconds")
    print("precision  reading  encoding  first token  other tokens  together  peak memory")
    with tempfile.TemporaryDirectory() as folder:
        make_base(Path(folder, "base"), options.tiny)
        for precision in PRECISIONS:
            one = ["--one", f"{folder}/base", precision, "--tokens", str(options.tokens)]
            done = subprocess.run([sys.executable, __file__, *one], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            read, encoded, first, others = (found[name] for name in ("reading", "encoding", "first", "others"))
            cells = (
                f"{read:7.2f}  {encoded:8.2f}  {first:11.2f}  {others:12.2f}  {read + encoded + first + others:8.2f}"
            )
            print(f"{precision:9}  {cells}  {found['peak'] / 2**30:7.2f} GiB", flush=True)
    if options.run:
        clips = clips_named(options.clips)
        found = {precision: answers(options.run, clips, precision) for precision in PRECISIONS}
        for precision in PRECISIONS[1:]:
            differ = sum(one != other for one, other in zip(found["auto"], found[precision], strict=True))
            print(f"{options.run}, {precision}: {differ} of {len(clips)} answers are others than those of auto")


if __name__ == "__main__":
    main()
