"""A fine-tuning of two steps on random features; `preflight` runs it in processes of its own to see what it takes.

Its argument is JSON (see `preflight.rehearse`). Each process writes ``<folder>/rehearsed-<rank>.json``: the most memory
that it took and, in bytes, what a checkpoint, an adapter and the features of a clip take on the disk.
"""

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mobilevideogpt.data.encoding import PIXELS
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.files import write_json
from mobilevideogpt.machine import peak_memory_bytes
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import read_config
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.launch import terminate_with_launcher
from mobilevideogpt.training.settings import TrainingSettings

STEPS = 2  # Adam's moments exist from the second


class RandomFeatures(FeatureStore):
    """Random numbers of the given shapes for any clip."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        self.shapes = shapes

    def __contains__(self, key: str | None) -> bool:
        return key is not None

    def read(self, key: str) -> dict[str, Tensor]:
        """Return a random tensor for each shape, whatever the key."""
        return {name: torch.randn(shape) for name, shape in self.shapes.items()}


class RandomPixels(RandomFeatures, UncachedFeatures):
    """Likewise, in the place of pixels, which the training encodes itself."""

    dtype = torch.float32


def main() -> None:
    """Train, and tell what it took."""
    request = json.loads(sys.argv[1])
    terminate_with_launcher()
    others = used_on_gpu()
    model = ModelPaths.from_mapping(request)
    config = read_config(model)
    if request["encode"]:
        frame = (config.num_frames, 3, config.image_size, config.image_size)
        store = RandomPixels(dict.fromkeys(PIXELS, frame))
    else:
        store = RandomFeatures(config.feature_shapes)
    settings = TrainingSettings(**request["settings"])
    batches = min(2, settings.gradient_accumulation_steps)
    settings = replace(settings, epochs=STEPS, gradient_accumulation_steps=batches, save_steps=STEPS)
    settings = replace(settings, report_to=[], num_workers=0, early_stopping_patience=None)
    clips = [str(n) for n in range(settings.batch_size * batches)]
    folder = Path(request["folder"])
    finetune(
        settings,
        model=model,
        train=[{**request["longest"], "video": clip, "features": "random"} for clip in clips],
        val=[],
        store=store,
        run_folder=folder / "run",
        digest="rehearsal",
        deepspeed_configs=request["deepspeed_configs"],
    )
    peak = reserved = peak_memory_bytes()
    if torch.cuda.is_available():  # and what the driver and the libraries take beside torch's allocator
        peak += max(0, used_on_gpu() - others - torch.cuda.memory_reserved())
    found = {
        "peak_bytes": peak,
        "reserved_bytes": reserved,  # torch's share of it
        "checkpoint_bytes": _size(folder / "run" / f"checkpoint-{STEPS}"),
        "adapter_bytes": _size(folder / "run" / "adapter"),
        "values_a_clip": sum(math.prod(shape) for shape in config.feature_shapes.values()),
    }
    write_json(found, folder / f"rehearsed-{os.environ.get('RANK', 0)}.json")


def used_on_gpu() -> int:
    """Return the bytes of this process's GPU that are taken, by whom ever, as the driver counts them."""
    return torch.cuda.device_memory_used(int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
