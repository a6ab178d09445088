"""A process of a rehearsal, as `rehearsal` starts it: a short fine-tuning on random features.

Its argument is JSON, see `rehearsal.rehearse`; without one, it waits for that on its standard input. It writes
``<folder>/rehearsed-<rank>.json``, a `rehearsal.Rehearsal`.
"""

import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from mobilevideogpt.data.encoding import PIXELS
from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.files import write_json
from mobilevideogpt.machine import peak_memory_bytes
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import read_config
from mobilevideogpt.processes import terminate_with_launcher
from mobilevideogpt.training.checkpoints import numbered_checkpoints
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.launch import leaving_process_group
from mobilevideogpt.training.rehearsal import Measured, Outcome, Rehearsal
from mobilevideogpt.training.settings import TrainingSettings

EPOCHS = 2  # Adam's moments exist from the second step, so the longest batch must return
CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class RandomFeatures(FeatureStore):
    """Random features of the given shapes for any key."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        self.shapes = shapes

    def stored(self, keys: Iterable[str | None]) -> set[str]:
        """Return all keys."""
        return {key for key in keys if key}

    def read(self, key: str) -> dict[str, Tensor]:
        """Return a random tensor for each shape."""
        return {name: torch.randn(shape) for name, shape in self.shapes.items()}


class RandomPixels(RandomFeatures, UncachedFeatures):
    """Random pixels, which the training encodes."""

    dtype, precision = torch.float32, "auto"


def main() -> None:
    """Rehearse, and write the outcome."""
    terminate_with_launcher()
    given = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read()
    if not given:  # whoever started this process has ended
        return
    request = json.loads(given)
    report = Path(request["folder"]) / f"rehearsed-{os.environ.get('RANK', 0)}.json"
    try:
        with leaving_process_group():
            rehearsal = Rehearsal(Outcome.OK, _train(request))
    except Exception as error:
        outcome = Outcome.OUT_OF_MEMORY if _is_out_of_memory(error) else Outcome.FAILED
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        write_json(asdict(Rehearsal(outcome, message=message)), report)
        raise
    write_json(asdict(rehearsal), report)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if getattr(error, "error_code", None) == CUDA_OUT_OF_MEMORY:
        return True
    # CUDA's driver, NCCL and DeepSpeed raise plain RuntimeErrors, so their text is the only evidence.
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def _train(request: dict) -> Measured:
    used_before = _used_gpu_bytes()
    model = ModelPaths.from_mapping(request["model"])
    config = read_config(model)
    settings = _rehearsed(TrainingSettings(**request["settings"]))
    folder = Path(request["folder"])
    longest = _samples(request["longest"], settings.shared * settings.gradient_accumulation_steps)
    finetune(
        settings,
        model=model,
        train=longest + (_samples(request["shortest"], len(longest)) if request["shortest"] else []),
        val=_samples(request["longest"], settings.shared),
        store=_random_store(config, request["encode"]),
        run_folder=folder / "run",
        digest="rehearsal",
        deepspeed_configs=request["deepspeed_configs"],
    )
    peak = reserved = peak_memory_bytes()
    if torch.cuda.is_available():  # add what the driver and the libraries need beside torch's allocator
        peak += max(0, _used_gpu_bytes() - used_before - torch.cuda.memory_reserved())
    return Measured(
        peak_bytes=peak,
        reserved_bytes=reserved,
        checkpoint_bytes=_size(numbered_checkpoints(folder / "run")[-1]),
        adapter_bytes=_size(folder / "run" / "adapter"),
        values_per_clip=sum(math.prod(shape) for shape in config.feature_shapes.values()),
    )


def _samples(sample: dict, count: int) -> list[dict]:
    return [{**sample, "video": str(clip), "features": "random"} for clip in range(count)]


def _rehearsed(settings: TrainingSettings) -> TrainingSettings:
    """Shorten a training to `EPOCHS` epochs, each of a step on the longest texts, then one on the shortest.

    A step has at most two batches. Each epoch ends with a validation and a checkpoint, as in the training.
    """
    return replace(
        settings,
        epochs=EPOCHS,
        gradient_accumulation_steps=min(2, settings.gradient_accumulation_steps),
        group_by_length=True,  # the longest first
        max_loss_ratio=None,
        report_to=[],
        num_workers=0,
        early_stopping_patience=None,
    )


def _random_store(config: MobileVideoGPTConfig, encode: bool) -> FeatureStore:
    if encode:
        frames = (config.num_frames, 3, config.image_size, config.image_size)
        return RandomPixels(dict.fromkeys(PIXELS, frames))
    return RandomFeatures(config.feature_shapes)


def _used_gpu_bytes() -> int:
    """Return the memory of this process's GPU that is in use by anybody, as the driver counts it."""
    return torch.cuda.device_memory_used(int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
