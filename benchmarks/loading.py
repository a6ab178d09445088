"""Clips a second that the training's loader reads from a slow store, by its latency and the number of workers.

    python benchmarks/loading.py [--megabytes 1000] [--latency 0 2 10 50] [--workers 1 2 4 8] [--clips 96]

Feature files of the real size are read and verified as in a training, from the page cache, in random order. The slow
store is emulated: a file waits for the latency of a look-up, in milliseconds, and for its share of a bandwidth, in
megabytes a second, that all workers have together. The row without latency is what files of many clips could reach,
since they save look-ups and no bytes.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from pathlib import Path

import torch

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.training.batches import Collate, SharedBatches, data_loader
from mobilevideogpt.training.preflight import EXAMPLE_SAMPLE

BASE = Path(__file__).resolve().parents[1] / "mobilevideogpt/sample/base"
FILES = 16  # each read several times
BATCH = 4  # clips


class SlowStore(FeatureStore):
    """A store whose files wait for a look-up and for their share of a bandwidth, shared with other processes."""

    def __init__(self, folder: Path, latency: float, bandwidth: float):
        super().__init__(folder)
        self.latency, self.bandwidth = latency, bandwidth
        self.free_at = multiprocessing.Value("d", 0.0)

    def read(self, key: str) -> dict[str, torch.Tensor]:
        """Read, but not before a slow store had sent the file."""
        now, size = time.monotonic(), self.path(key).stat().st_size
        with self.free_at.get_lock():
            self.free_at.value = max(self.free_at.value, now + self.latency) + size / self.bandwidth
            sent = self.free_at.value
        features = super().read(key)
        time.sleep(max(0.0, sent - time.monotonic()))
        return features


def clips_a_second(store: FeatureStore, samples: list[dict], processor, workers: int) -> float:
    """Read an epoch, after one batch in which the workers start."""
    dataset = AnnotatedVideos(samples, store, processor, 2048)
    sampler = SharedBatches(len(samples), BATCH, 0, 1, seed=0)
    batches = iter(data_loader(dataset, Collate(processor), sampler, workers, pin_memory=False))
    next(batches)
    started = time.perf_counter()
    count = sum(len(batch["numbers"]) for batch in batches)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--megabytes", type=float, default=1000, help="a second, of the store")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 2, 10, 50], help="milliseconds a file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # they wait for the store, not for a core
    processor = MobileVideoGPTProcessor.from_pretrained(BASE)
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder)
        keys = [f"{number:064}" for number in range(FILES)]
        for key in keys:
            shapes = MobileVideoGPTConfig().feature_shapes.items()
            store.write(key, {name: torch.randn(shape).half() for name, shape in shapes})
        size = store.path(keys[0]).stat().st_size
        samples = [{**EXAMPLE_SAMPLE, "features": keys[number % FILES]} for number in range(options.clips)]
        alone = clips_a_second(store, samples, processor, 1)
        print(f"{size / 1e6:.2f} MB a clip; {os.cpu_count()} cores; {torch.__version__}")
        print(f"one worker, no slow store: {alone:.1f} clips/s")
        print(f"a store of {options.megabytes:g} MB/s could send {options.megabytes * 1e6 / size:.1f} clips/s")
        print(f"{'latency':>10}" + "".join(f"{workers:>10} w." for workers in options.workers))
        for latency in options.latency:
            slow = SlowStore(Path(folder), latency / 1000, options.megabytes * 1e6)
            rates = [clips_a_second(slow, samples, processor, workers) for workers in options.workers]
            print(f"{latency:>7g} ms" + "".join(f"{rate:>13.1f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
