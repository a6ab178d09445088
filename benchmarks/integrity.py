"""Seconds a clip of the clip check, compared with a bare full decode of the same files by ``ffmpeg -f null -``.

    python benchmarks/integrity.py   # needs ffmpeg, or `pip install imageio-ffmpeg`

Half of the clips are rendered ones of the sample, half are copies of a real one of 145 frames of 640 x 480. FFmpeg runs
in as many processes, of one thread each, as the checker. Each measurement runs in turn, the workflow on empty results.
The shortest of each are compared, since what else runs on the machine only adds time.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg

from mobilevideogpt.files import write_json
from mobilevideogpt.sample.render import sample_specs, write_clip
from mobilevideogpt.video.clip_check import check_clips

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "tests/parity/00000340.mp4"
CODE = ("Snakefile", "config.yaml", "config", "rules", "workflow_scripts", "mobilevideogpt", "environment.yml")


def make_project(folder: Path, clips: int) -> list[Path]:
    """Copy the code into ``folder`` and fill its ``dataset/``."""
    for name in CODE:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    squats = folder / "dataset/squats"
    squats.mkdir(parents=True)
    rendered = [squats / f"rendered_{i}.mp4" for i in range(10)]
    for spec, path in zip(sample_specs(clips_per_exercise=2).values(), rendered, strict=False):
        write_clip(spec, path)
    paths = [path for path in rendered if path.exists()][:clips]
    for i in range(len(paths), clips):
        paths.append(Path(shutil.copy(REAL if i % 2 else paths[i % 10], squats / f"copy_{i}.mp4")))
    write_json(
        {path.relative_to(folder / "dataset").as_posix(): "squats" for path in paths}, folder / "dataset/manifest.json"
    )
    return paths


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ffmpeg", default=imageio_ffmpeg.get_ffmpeg_exe())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_project(folder, options.clips)

        def bare():
            def decode(path):
                command = [options.ffmpeg, "-nostdin", "-v", "error", "-threads", "1", "-i", path, "-f", "null", "-"]
                subprocess.run(command, check=True)

            with ThreadPoolExecutor(options.cores) as pool:
                list(pool.map(decode, paths))

        def checker():
            statuses = {check["verdict"] for _, check in check_clips(paths, workers=options.cores)}
            assert statuses == {"ok"}, statuses

        def workflow():
            shutil.rmtree(folder / "results", ignore_errors=True)
            command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", str(options.cores)]
            subprocess.run([*command, "results/verify/report.json"], cwd=folder, check=True)

        taken = {work.__name__: [] for work in (bare, checker, workflow)}
        for _ in range(options.runs):
            for work in (bare, checker, workflow):
                taken[work.__name__].append(seconds(work) / options.clips)
    shortest = {name: min(values) for name, values in taken.items()}
    for name, value in shortest.items():
        each = ", ".join(f"{run:.4f}" for run in taken[name])
        print(f"{name}: {value:.4f} s a clip, {value / shortest['bare']:.2f} times the bare decode ({each})")


if __name__ == "__main__":
    main()
