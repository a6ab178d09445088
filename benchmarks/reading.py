"""Clips a second that are read and brought to the encoders' sizes: through PyAV, with Pillow, and as installed.

    python benchmarks/reading.py [--clips 60] [--cores 2] [--clip CLIP]

The clips are copies of one real clip of 145 frames of 640 x 480. Each way runs in turn in as many processes as
there are cores; the fastest run of each counts, since what else runs on the machine only adds time.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from loky import ProcessPoolExecutor
from PIL import Image

from mobilevideogpt.video.decoding import count_packets, decode_at
from mobilevideogpt.video.decoding_pool_worker import start_decoding_worker
from mobilevideogpt.video.frame_reader import model_frames
from mobilevideogpt.video.frames import SIDE, clip_frames, encoder_frames, resize
from mobilevideogpt.video.sampling import frame_indices

CLIP = Path(__file__).resolve().parents[1] / "tests/parity/00000340.mp4"


def through_pyav(path: str) -> int:
    """Read a clip as before 0.2, and drop its frames."""
    packets = count_packets(path)
    return len(encoder_frames(decode_at(path, frame_indices(packets.frames, packets.fps))))


def with_pillow(path: str) -> int:
    """Read a clip through decord, and resize its frames for CLIP with Pillow; drop them."""
    return sum(1 for frame in model_frames(path, 16, 16) if len(resize(frame)) == len(through_pillow(frame)))


def through_pillow(frame: np.ndarray) -> np.ndarray:
    """Resize a frame for CLIP as `resize_and_centre_crop` did until 0.2."""
    height, width = frame.shape[:2]
    width, height = SIDE * width // min(frame.shape[:2]), SIDE * height // min(frame.shape[:2])
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


def as_installed(path: str) -> int:
    """Read a clip as the feature stage does, and drop its frames."""
    return len(clip_frames(path, None, 16, 16))


def clips_a_second(pool: ProcessPoolExecutor, read: Callable[[str], int], clips: list[str]) -> tuple[float, float]:
    """Return the clips a second, and the processor's milliseconds a clip."""
    started, taken = time.perf_counter(), list(pool.map(timed, [read] * len(clips), clips))
    return len(clips) / (time.perf_counter() - started), 1000 * sum(taken) / len(clips)


def timed(read: Callable[[str], int], path: str) -> float:
    """Return the seconds of the processor that reading takes."""
    started = time.process_time()
    read(path)
    return time.process_time() - started


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clip", type=Path, default=CLIP)
    options = parser.parse_args()
    rates = {through_pyav: [], with_pillow: [], as_installed: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.cores, initializer=start_decoding_worker, initargs=(os.getpid(),)) as pool,
    ):
        clips = [
            str(shutil.copy(options.clip, Path(folder, f"{i}{options.clip.suffix}"))) for i in range(options.clips)
        ]
        for read in rates:
            clips_a_second(pool, read, clips[: 2 * options.cores])  # the workers start
        for _ in range(options.runs):
            for read, found in rates.items():
                found.append(clips_a_second(pool, read, clips))
    for read, found in rates.items():
        rate, milliseconds = max(rate for rate, _ in found), min(taken for _, taken in found)
        print(f"{read.__name__}: {rate:.1f} clips/s on {options.cores} cores, {milliseconds:.0f} ms of a core a clip")


if __name__ == "__main__":
    main()
