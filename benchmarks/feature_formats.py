"""What features of fewer bytes would lose: the loss and the answers of a trained run, by the format of its features.

    python benchmarks/feature_formats.py results/sample/finetune [--split val test]

The features of the run's clips are rounded to float8 (e4m3, one scale a tensor), or replaced by the means of 2 x 2
patches, and given to the model as they are. A training on such features could adapt to them; this does not show it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.evaluation.generation import generate_answers, load_for_inference
from mobilevideogpt.model.adapter import load_finetuned
from mobilevideogpt.serving.finetuned import Finetuned
from mobilevideogpt.training.batches import Collate, SharedBatches, data_loader

LARGEST = 448  # of float8_e4m3fn
BATCH = 4  # clips


def as_float8(features: Tensor) -> Tensor:
    """Round to float8, and return the values in the format that they had."""
    values = features.float()
    scale = values.abs().max() / LARGEST
    return ((values / scale).to(torch.float8_e4m3fn).float() * scale).to(features.dtype)


def pooled(features: Tensor) -> Tensor:
    """Replace each patch, ``(frames, patches, width)``, by the mean of the 2 x 2 that it belongs to."""
    frames, patches, width = features.shape
    side = int(patches**0.5)
    grid = features.float().transpose(1, 2).reshape(frames, width, side, side)
    mean = F.interpolate(F.avg_pool2d(grid, 2, ceil_mode=True), size=(side, side))
    return mean.reshape(frames, width, patches).transpose(1, 2).to(features.dtype)


class Changed(FeatureStore):
    """A store whose features are changed as they are read."""

    def __init__(self, folder: Path, change: Callable[[Tensor], Tensor]):
        super().__init__(folder)
        self.change = change

    def read(self, key: str) -> dict[str, Tensor]:
        """Read, and change."""
        return {name: self.change(tensor) for name, tensor in super().read(key).items()}


@torch.inference_mode()
def loss_of(model, processor, samples: list[dict], store: FeatureStore) -> float:
    """Return the mean loss over the supervised tokens."""
    dataset = AnnotatedVideos(samples, store, processor, 2048)
    sampler = SharedBatches(len(samples), BATCH, 0, 1, seed=None)
    total = count = 0.0
    for batch in data_loader(dataset, Collate(processor), sampler, 0, pin_memory=False):
        batch = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "numbers"}
        tokens = (batch["labels"][:, 1:] != IGNORED).sum().item()
        total += model(**batch).loss.item() * tokens
        count += tokens
    return total / count


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", nargs="+", default=["val", "test"])
    options = parser.parse_args()
    finetuned = Finetuned.of_run(options.run)
    assert finetuned.adapter is not None
    base = load_for_inference(finetuned.paths, precision=finetuned.precision)
    model = load_finetuned(base, finetuned.adapter).eval()
    processor = MobileVideoGPTProcessor.from_pretrained(finetuned.paths.base)
    folder = options.run.parent / "features"
    samples = [sample for split in options.split for sample in json.loads((folder / f"{split}.json").read_text())]
    prompts = [prompt_and_response(sample)[0] for sample in samples]
    ways: dict[str, Callable[[Tensor], Tensor]] = {"as kept": lambda x: x, "float8": as_float8, "2 x 2 means": pooled}
    before: list[str] = []
    print(f"{len(samples)} clips of {', '.join(options.split)}")
    print(f"{'features':12} {'bytes':>6} {'difference':>11} {'loss':>8} {'other answers':>14}")
    for name, change in ways.items():
        store = Changed(folder, change)
        kept = [FeatureStore(folder).read(sample["features"]) for sample in samples]
        given = [store.read(sample["features"]) for sample in samples]
        differences = [
            ((one[part].float() - two[part].float()).norm() / two[part].float().norm()).item()
            for one, two in zip(given, kept, strict=True)
            for part in one
        ]
        answers = [answer.text for answer in generate_answers(model, processor, prompts, given, 64)]
        before = before or answers
        other = sum(one != two for one, two in zip(answers, before, strict=True))
        share = {"as kept": 1.0, "float8": 0.5, "2 x 2 means": 0.25}[name]
        loss = loss_of(model, processor, samples, store)
        mean = sum(differences) / len(differences)
        print(f"{name:12} {share:6.2f} {mean:11.4f} {loss:8.4f} {other:14}", flush=True)


if __name__ == "__main__":
    main()
