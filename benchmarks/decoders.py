"""Compare the frames and the speed of `read_frames` with decord, which the original code uses.

    pip install decord2 && python benchmarks/decoders.py

Prints whether the 16 frames of a real clip, and of some unusual ones, are the same to the bit.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import decord
import numpy as np

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.sampling import frame_indices

TESTS = Path(__file__).parents[1] / "tests"
RUNS = 5


def decord_frames(path: Path) -> np.ndarray:
    """Decode the frames at the same positions through decord."""
    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch(frame_indices(len(reader), reader.get_avg_fps())).asnumpy()


def timed(work, path: Path) -> tuple[np.ndarray, float]:
    """Return the result and the median milliseconds of `RUNS` runs."""
    taken = []
    for _ in range(RUNS):
        started = time.perf_counter()
        found = work(path)
        taken.append(1000 * (time.perf_counter() - started))
    return found, statistics.median(taken)


def main() -> None:
    """Make the clips and compare."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TESTS / "video/corpus.py"), folder, "1"]
        subprocess.run(command, check=True, capture_output=True)
        broken = ("cut_*", "flipped_*")
        paths = [path for path in sorted(Path(folder).iterdir()) if not any(map(path.match, broken))]
        for path in [TESTS / "parity/00000340.mp4", *(path for path in paths if path.is_file())]:
            try:
                ours, milliseconds = timed(lambda path: read_frames(path)[0], path)
            except InputError:
                continue  # also broken
            try:
                theirs, their_milliseconds = timed(decord_frames, path)
            except (decord.DECORDError, RuntimeError) as error:
                print(f"{path.name:22} {milliseconds:6.0f} ms; decord fails: {str(error).strip().splitlines()[0][:80]}")
                continue
            same = ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).max()
            difference = "another shape" if same is False else "equal" if same == 0 else f"up to {same} apart"
            print(f"{path.name:22} {milliseconds:6.0f} ms, decord {their_milliseconds:6.0f} ms, {difference}")


if __name__ == "__main__":
    main()
