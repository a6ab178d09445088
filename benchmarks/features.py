"""Clips a second through the feature stage, from files on the disk to features on the disk, and what it waits for.

    python benchmarks/features.py [--clips 256] [--batch-size 32] [--encoders tiny]

Runs `extract_features` itself, with full-size encoders of random weights unless told otherwise, on the GPU if there is
one. The clips are copies of one real clip. Prints where the stage's own thread waits, what each part costs on its own,
and how reading scales over threads and over processes. Where PyAV is not installed, OpenCV decodes, and that is said.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "tests/parity/00000340.mp4"  # 145 frames of 640x480, H.264


def without_av():
    """Let the package be imported where PyAV is missing, and return a reader that takes its place."""
    import cv2
    import numpy as np

    for name in ("av", "av.container", "decord"):
        sys.modules.setdefault(name, types.ModuleType(name))
    names = ("InputContainer", "VideoStream", "VideoFrame", "Packet")
    sys.modules["av"].__dict__.update(dict.fromkeys(names, object), error=SimpleNamespace(FFmpegError=OSError))
    sys.modules["av.container"].InputContainer = object
    from mobilevideogpt.video.sampling import frame_indices

    def read_frames(path, min_frames=16, max_frames=16):
        capture = cv2.VideoCapture(str(path))
        count, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        positions, frames = frame_indices(count, fps, min_frames, max_frames), []
        for i in range(positions[-1] + 1):
            capture.grab()
            if i in positions:
                frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        return np.stack(frames), positions, None

    return read_frames


try:
    import av  # noqa: F401

    DECODER = "PyAV"
    from mobilevideogpt.video.decoding import read_frames
except ModuleNotFoundError:
    DECODER = "OpenCV, as PyAV is not installed; times of decoding are not those of the product"
    read_frames = without_av()

from mobilevideogpt.data import features  # noqa: E402
from mobilevideogpt.data.processor import MobileVideoGPTProcessor  # noqa: E402
from mobilevideogpt.model.configuration import MobileVideoGPTConfig  # noqa: E402
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration  # noqa: E402
from mobilevideogpt.video import pixels  # noqa: E402

SECONDS: Counter = Counter()  # by part; of all threads together
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
    """``function``, with its seconds counted for ``part``."""

    def wrapped(*args, **kwargs):
        with timed(part):
            return function(*args, **kwargs)

    return wrapped


def timing_items(part: str, function):
    """A generator function, with the seconds that its consumer waits counted for ``part``."""

    def wrapped(*args):
        items = function(*args)
        while True:
            with timed(part):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    return wrapped


def model_of(size: str, device: str):
    """A model of random weights whose language model, which is not used here, is small."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "video_token_id": 3}
    if size == "tiny":
        sizes |= {"video_hidden_size": 32, "video_num_layers": 1, "image_hidden_size": 64, "image_num_layers": 2}
        sizes |= {"image_intermediate_size": 64, "image_num_heads": 2}
    return MobileVideoGPTForConditionalGeneration(MobileVideoGPTConfig(**sizes)).eval().to(device)


def scaling(reader, clips: list[str], counts: list[int]) -> list[tuple[str, int, float]]:
    """Clips a second that are read and resized, by kind and number of workers."""

    def rate(pool: Executor) -> float:
        with pool:
            list(pool.map(read_one, clips[:2]))  # started
            started = time.perf_counter()
            list(pool.map(read_one, clips))
            return len(clips) / (time.perf_counter() - started)

    read_one.reader = reader
    fork = multiprocessing.get_context("fork")  # carries the reader along; nothing else runs yet
    rows = [("processes", n, rate(ProcessPoolExecutor(n, mp_context=fork))) for n in counts]
    return rows + [("threads", n, rate(ThreadPoolExecutor(n))) for n in counts]


def read_one(path: str) -> int:
    """Read a clip and drop the pixels, so that no kind of worker pays for handing them over."""
    return len(read_one.reader.encode_video(path))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--no-scaling", action="store_true", help="measure the stage alone, not its readers by number")
    parser.add_argument("--encoders", choices=["full", "tiny"], default="full")
    parser.add_argument("--dtype", choices=list(features.DTYPES), default="float16")
    parser.add_argument("--clip", type=Path, default=CLIP, help="the clip that is copied")
    parser.add_argument("--folder", help="where clips and features go; by default the system's temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}"
    print(f"{where}; {os.cpu_count()} cores; torch {torch.__version__}; decoder: {DECODER}")
    reader = MobileVideoGPTProcessor(SimpleNamespace(get_vocab=dict))  # no text is encoded here
    figures = {"device": where, "decoder": DECODER, "scaling": [], "runs": []}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        patch.object(pixels, "read_frames", timing("decoding", read_frames)),
        patch.object(pixels, "video_pixels", timing("resizing", pixels.video_pixels)),
        patch.object(pixels, "context_pixels", timing("resizing", pixels.context_pixels)),
        patch.object(features, "encode", timing("encoding", features.encode)),
        patch.object(features, "_ahead", timing_items("waiting for pixels", features._ahead)),
        patch.object(features.FeatureStore, "write", timing("writing", features.FeatureStore.write)),
    ):
        clips = [str(shutil.copy(options.clip, Path(folder, f"{i:05d}.mp4"))) for i in range(options.clips)]
        counts = sorted({n for n in (1, 2, 4, 8, 16, 32) if n < options.workers} | {options.workers})
        counts = [] if options.no_scaling else counts
        for kind, n, rate in scaling(reader, clips[: min(len(clips), 16 * options.workers)], counts):
            print(f"read and resized by {n:2d} {kind:9}: {rate:6.1f} clips/s")
            figures["scaling"].append({"kind": kind, "workers": n, "clips_per_second": rate})
        model = model_of(options.encoders, device)
        features.encode(model, [reader.encode_video(clips[0])] * 2, device, torch.float16)  # kernels are compiled
        for size in options.batch_size:
            SECONDS.clear()
            store = features.FeatureStore(Path(folder, f"features-{size}"))
            digests = {clip: clip for clip in clips}  # as if each had content of its own
            settings = {"dtype": options.dtype}
            started = time.perf_counter()
            features.extract_features(
                model, reader, digests, store, "", settings, size, device, options.workers, progress=False
            )
            seconds = time.perf_counter() - started
            size_on_disk = sum(path.stat().st_size for path in store.folder.rglob("*.safetensors"))
            shutil.rmtree(store.folder)
            shares = {part: SECONDS[part] / seconds for part in ("waiting for pixels", "encoding")}
            shares["the rest"] = 1 - sum(shares.values())
            alone = {part: 1e3 * SECONDS[part] / len(clips) for part in ("decoding", "resizing", "encoding", "writing")}
            print(f"\nbatches of {size}: {len(clips) / seconds:.1f} clips/s ({len(clips)} in {seconds:.1f} s)")
            print("  the stage's thread: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()))
            print("  ms a clip, each in its own thread: " + ", ".join(f"{p} {ms:.1f}" for p, ms in alone.items()))
            print(f"  on the disk: {size_on_disk / len(clips) / 1e6:.2f} MB a clip")
            busiest = max(("waiting for pixels", "encoding", "the rest"), key=shares.get)
            print(f"  bottleneck: {'decoding and resizing' if busiest == 'waiting for pixels' else busiest}")
            if device == "cuda":
                print(f"  GPU memory: {torch.cuda.max_memory_reserved() / 1e9:.1f} GB")
            figures["runs"].append({"batch_size": size, "clips_per_second": len(clips) / seconds} | shares | alone)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
