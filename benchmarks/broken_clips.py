"""Compare the clip check of broken clips with ``ffmpeg -v error -i CLIP -f null -``; count crashes and hangs.

    python benchmarks/broken_clips.py   # needs ffmpeg, or `pip install imageio-ffmpeg`

FFmpeg finds a fault if it fails, exceeds the time limit or prints anything; the clip check finds one if the status is
`error`. Prints the clips on which they differ, and the counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from mobilevideogpt.video.clip_check import check_clips
from mobilevideogpt.video.reencode_reasons import Reason

CORPUS = Path(__file__).parents[1] / "tests/video/corpus.py"


def ffmpeg_complaint(ffmpeg: str, path: Path, timeout_seconds: float) -> str:
    """Return FFmpeg's messages about a clip, or why it failed; empty if it finds no fault."""
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
        checks = dict(check_clips(paths, workers=2, timeout_seconds=options.timeout_seconds))
        seconds = time.monotonic() - started
        same = called_ok = 0
        for path in paths:
            status, complaint = checks[path]["verdict"], ffmpeg_complaint(options.ffmpeg, path, 5)
            agreed = (status == "error") == bool(complaint)
            same += agreed
            called_ok += status != "error" and bool(complaint)
            if not agreed:
                ours = "; ".join(checks[path]["problems"])[:100]
                print(f"{path.name}: {status} ({ours}); ffmpeg: {complaint.splitlines()[:1] or 'no fault'}")
    failed = sum(Reason.DECODER in check["reencode"] for check in checks.values())
    print(
        f"{len(paths)} clips in {seconds:.1f} s: {same} as by ffmpeg, {called_ok} ok or a warning where ffmpeg finds a "
        f"fault, {failed} crashed or hung the decoder; the run continued after each"
    )


if __name__ == "__main__":
    main()
