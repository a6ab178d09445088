"""The decoders' table: for each unusual clip, how far decord's frames are from PyAV's, and what the clip check says.

    python benchmarks/decoders.py [CLIP ...]

The difference is that of the worst of the model's frames, on average over its pixels, on the scale of 255. Without
arguments the clips are a real one, the unusual ones of the tests, and a few broken ones.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.clip_check import check_clip
from mobilevideogpt.video.decoding import count_packets, read_frames
from mobilevideogpt.video.frame_reader import model_frames

TESTS = Path(__file__).parents[1] / "tests"
LEFT_OUT = ("cut_*_?.mp4", "cut_*_[!3]?.mp4", "cut_*_3[!08].mp4", "flipped_*_0.01*")  # most of the broken ones


def difference(path: Path) -> str:
    """Return how far the frames of both decoders are apart, or which of them fails."""
    try:
        shown, _, _ = read_frames(path)
    except InputError:
        shown = None
    try:
        read = list(model_frames(path, 16, 16))
    except InputError:
        return "neither reads it" if shown is None else "decord fails"
    if shown is None:
        return "PyAV fails"
    if read[0].shape != shown[0].shape:
        return "other sizes"
    return f"{max(np.abs(one.astype(int) - other).mean() for one, other in zip(read, shown, strict=True)):.2f}"


def main() -> None:
    """Make the clips and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]]
        if not paths:
            command = [sys.executable, str(TESTS / "video/corpus.py"), folder, "1"]
            subprocess.run(command, check=True, capture_output=True)
            made = [path for path in sorted(Path(folder).iterdir()) if path.is_file()]
            paths = [TESTS / "parity/00000340.mp4", *(path for path in made if not any(map(path.match, LEFT_OUT)))]
        print(
            "| clip | codec | frames shown | difference | status | problem |\n| --- | --- | ---: | ---: | --- | --- |"
        )
        for path in paths:
            check = check_clip(path)
            try:
                frames = str(count_packets(path).frames)
            except (OSError, ValueError):
                frames = ""
            problem = "; ".join(text.partition("; ")[0] for text in check["problems"])
            row = (path.name, check["codec"] or "", frames, difference(path), check["verdict"], problem)
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
