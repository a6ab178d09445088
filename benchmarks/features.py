"""Clips a second through the feature stage, from clips on the disk to features on the disk, and its bottleneck.

    python benchmarks/features.py [--clips 256] [--batch-size 32] [--encoders tiny] [--devices 2]

Reads clips and runs `extract_features`, by default with full-size encoders of random weights, on the GPU if there is
one, and then on as many as asked for. The clips are copies of one real clip. Prints how busy the devices are, the time
of each part for a clip, and how decoding scales over threads and over processes.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import psutil
import torch
from loky import ProcessPoolExecutor

from mobilevideogpt.data import device_encoder, extraction
from mobilevideogpt.data.encoding import DTYPES
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.files import file_digest
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.video.decoding_pool import DecodingPool
from mobilevideogpt.video.decoding_pool_worker import start_decoding_worker
from mobilevideogpt.video.frame_reader import model_frames
from mobilevideogpt.video.frames import clip_frames, encoder_frames

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "tests/parity/00000340.mp4"  # 145 frames of 640x480, H.264
READ = partial(clip_frames, min_frames=16, max_frames=16)
SECONDS: Counter = Counter()  # of each part, summed over all threads
_lock = threading.Lock()


@contextmanager
def timed(part: str):
    started = time.perf_counter()
    try:
        yield
    finally:
        with _lock:
            SECONDS[part] += time.perf_counter() - started


def timing(part: str, function):
    """Wrap ``function`` and count its seconds for ``part``."""

    def wrapped(*args, **kwargs):
        with timed(part):
            return function(*args, **kwargs)

    return wrapped


def timing_items(part: str, function):
    """Wrap a function that returns an iterator, and count the seconds that its consumer waits for ``part``."""

    def timed_items(items):
        while True:
            with timed(part):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    return lambda *args: timed_items(function(*args))


class Utilisation(threading.Thread):
    """Samples the share of the last fraction of a second in which GPUs computed, as the driver counts it."""

    def __init__(self, devices: list[str]):
        super().__init__(daemon=True)
        self.devices, self.samples, self.done = devices, [], threading.Event()

    def run(self):
        while not self.done.wait(0.2):
            self.samples += [torch.cuda.utilization(device) for device in self.devices]

    def mean(self) -> float:
        self.done.set()
        self.join()
        return sum(self.samples) / max(1, len(self.samples)) / 100


def model_of(size: str, device: str):
    """Make a model of random weights; its language model, which is not used here, is small."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "video_token_id": 3}
    if size == "tiny":
        sizes |= {"video_hidden_size": 32, "video_num_layers": 1, "image_hidden_size": 64, "image_num_layers": 2}
        sizes |= {"image_intermediate_size": 64, "image_num_heads": 2}
    return MobileVideoGPTForConditionalGeneration(MobileVideoGPTConfig(**sizes)).eval().to(device)


def scaling(clips: list[str], counts: list[int]) -> list[tuple[str, int, float]]:
    """Measure the clips a second that are read and resized, by kind and number of workers."""

    def rate(pool: Executor) -> float:
        with pool:
            list(pool.map(read_one, clips[:2]))  # the workers start
            started = time.perf_counter()
            list(pool.map(read_one, clips))
            return len(clips) / (time.perf_counter() - started)

    def processes(n: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(n, initializer=start_decoding_worker, initargs=(os.getpid(),))

    rows = [("processes", n, rate(processes(n))) for n in counts]
    return rows + [("threads", n, rate(ThreadPoolExecutor(n))) for n in counts]


def read_one(path: str) -> int:
    """Read a clip and drop its frames, so that no kind of worker spends time on returning them."""
    return len(READ(path, digest=None))


def alone(clip: str) -> dict[str, float]:
    """Measure the parts of reading a clip, on an otherwise idle core, in seconds."""
    cv2.setNumThreads(1)
    encoder_frames(list(model_frames(clip, 16, 16)))  # the resize is compiled
    started = time.perf_counter()
    pictures = list(model_frames(clip, 16, 16))
    decoded = time.perf_counter()
    encoder_frames(pictures)
    return {"decoding": decoded - started, "resizing": time.perf_counter() - decoded}


def warm_up(model, clip: str, device: str) -> None:
    """Have kernels compiled and loaded."""
    encoder = device_encoder.DeviceEncoder(model, device, 2, torch.float16)
    encoder.encode([READ(clip, digest=None)] * 2)


def run_once(model, clips: list[str], digest: str, folder: Path, devices: list[str], batch_size: int, options) -> dict:
    """Extract the features of all clips; return clips a second, shares of the time, and seconds of a clip's parts."""
    SECONDS.clear()
    missing = {f"{i:08d}": clip for i, clip in enumerate(clips)}  # as if their contents differed
    on_gpu = devices[0].startswith("cuda")
    utilisation = Utilisation(devices if on_gpu else [])
    utilisation.start()
    started, idle = time.perf_counter(), psutil.cpu_times().idle
    with DecodingPool(options.workers) as readers:
        frames = readers.map_ahead(READ, [(clip, digest) for clip in clips], 2 * batch_size + options.workers)
        extraction.extract_features(
            model, frames, missing, FeatureStore(folder), dtype=options.dtype, batch_size=batch_size, devices=devices,
            progress=False,
        )  # fmt: skip
    seconds, idle = time.perf_counter() - started, psutil.cpu_times().idle - idle
    busy = utilisation.mean() if on_gpu else (SECONDS["encoding"] + SECONDS["standardising"]) / len(devices) / seconds
    size_on_disk = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    shutil.rmtree(folder)
    run = {"devices": len(devices), "batch_size": batch_size, "clips_per_second": len(clips) / seconds}
    run |= {"devices_busy": busy, "waits": SECONDS["waiting for frames"] / seconds, "bytes": size_on_disk}
    run |= {"cores_busy": 1 - idle / seconds / (os.cpu_count() or 1)}
    return run | {part: SECONDS[part] / len(clips) for part in ("standardising", "encoding", "writing")}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--precision", default="auto", help="of the encoders: auto, tf32, fp32 or bf16")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--devices", type=int, default=1, help="runs on one, and on so many")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--no-scaling", action="store_true", help="measure the stage alone, not its workers by number")
    parser.add_argument("--encoders", choices=["full", "tiny"], default="full")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16")
    parser.add_argument("--clip", type=Path, default=CLIP, help="the clip that is copied")
    parser.add_argument("--folder", help="where clips and features go; by default the system's temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}"
    print(f"{where}; {os.cpu_count()} cores; torch {torch.__version__}")
    figures = {"device": where, "scaling": [], "runs": []}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        patch.object(device_encoder, "encode", timing("encoding", device_encoder.encode)),
        patch.object(DecodingPool, "map_ahead", timing_items("waiting for frames", DecodingPool.map_ahead)),
        patch.object(device_encoder, "standardise", timing("standardising", device_encoder.standardise)),
        patch.object(FeatureStore, "write", timing("writing", FeatureStore.write)),
    ):
        clips = [str(shutil.copy(options.clip, Path(folder, f"{i:05d}.mp4"))) for i in range(options.clips)]
        counts = sorted({n for n in (1, 2, 4, 8, 16, 32) if n < options.workers} | {options.workers})
        counts = [] if options.no_scaling else counts
        for kind, n, rate in scaling(clips[: min(len(clips), 16 * options.workers)], counts):
            print(f"read and resized by {n:2d} {kind:9}: {rate:6.1f} clips/s")
            figures["scaling"].append({"kind": kind, "workers": n, "clips_per_second": rate})
        reading = alone(clips[0])
        digest = file_digest(options.clip)
        model = model_of(options.encoders, device)
        model.set_encoder_precision(options.precision)
        for size in options.batch_size:
            rates = {}
            for count in sorted({1, options.devices}):
                devices = [f"cuda:{i}" for i in range(count)] if device == "cuda" else ["cpu"] * count
                for used in devices:
                    warm_up(model, clips[0], used)
                run = run_once(
                    model.to("cpu"), clips, digest, Path(folder, f"features-{size}-{count}"), devices, size, options
                )
                rates[count] = run["clips_per_second"]
                figures["runs"].append(run | reading)
                print(f"\nbatches of {size} on {count} device(s): {rates[count]:.1f} clips/s")
                print(f"  devices busy {run['devices_busy']:.0%}, cores busy {run['cores_busy']:.0%}, "
                      f"main thread waits for frames {run['waits']:.0%}")  # fmt: skip
                taken = reading | {part: run[part] for part in ("standardising", "encoding", "writing")}
                print("  ms a clip, on a core or the GPU: " + ", ".join(f"{p} {s * 1e3:.1f}" for p, s in taken.items()))
                print(f"  on the disk: {run['bytes'] / len(clips) / 1e6:.2f} MB a clip")
                busy = [name for name in ("devices", "cores") if run[f"{name}_busy"] > 0.85]
                print(f"  bottleneck: {' and '.join(busy) or 'neither devices nor cores'}")
                if device == "cuda":
                    print(f"  GPU memory: {torch.cuda.max_memory_reserved() / 1e9:.1f} GB")
            if options.devices > 1:
                print(f"\n{options.devices} devices: {rates[options.devices] / rates[1]:.2f} times the clips/s of one")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
