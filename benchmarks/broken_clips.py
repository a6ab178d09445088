"""Are broken clips judged as ``ffmpeg -v error -i CLIP -f null -`` judges them, without a crash or a hang?

    python benchmarks/broken_clips.py   # needs ffmpeg, or `pip install imageio-ffmpeg`

FFmpeg finds fault with a clip if it fails, does not end within the time limit or says anything; the checker does by
the verdict `error`. Prints the clips on which they differ, and the counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from mobilevideogpt.video.clip_check import probe_many

CORPUS = Path(__file__).parents[1] / "tests/video/corpus.py"


def ffmpeg_complaint(ffmpeg: str, path: Path, timeout_seconds: float) -> str:
    """What FFmpeg says of a clip; empty if it finds no fault."""
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        return "does not end"
    return done.stderr.strip() or (f"exit status {done.returncode}" if done.returncode else "")


def main() -> None:
    """Parse the command line, make the clips, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ffmpeg", default=imageio_ffmpeg.get_ffmpeg_exe())
    parser.add_argument("--seeds", type=int, default=4, help="draws of flipped bits at each rate")
    parser.add_argument("--timeout-seconds", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, str(CORPUS), name, str(options.seeds)], check=True, capture_output=True)
        paths = sorted([*folder.iterdir(), folder / "missing.mp4"])
        started = time.monotonic()
        records = dict(probe_many(paths, workers=2, timeout_seconds=options.timeout_seconds))
        seconds = time.monotonic() - started
        same = called_ok = 0
        for path in paths:
            verdict, complaint = records[path]["verdict"], ffmpeg_complaint(options.ffmpeg, path, 5)
            agreed = (verdict == "error") == bool(complaint)
            same += agreed
            called_ok += verdict != "error" and bool(complaint)
            if not agreed:
                ours = "; ".join(records[path]["problems"])[:100]
                print(f"{path.name}: {verdict} ({ours}); ffmpeg: {complaint.splitlines()[:1] or 'no fault'}")
        killed = [problem for record in records.values() for problem in record["problems"] if "crashed" in problem]
        late = [
            problem for record in records.values() for problem in record["problems"] if "not decoded within" in problem
        ]
    print(
        f"{len(paths)} clips in {seconds:.1f} s: {same} judged as by ffmpeg, {called_ok} called ok or warned of where "
        f"ffmpeg finds fault, {len(killed)} crashed a worker, {len(late)} hung; the run went on after each"
    )


if __name__ == "__main__":
    main()
