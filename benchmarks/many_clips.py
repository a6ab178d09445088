"""Seconds and peak memory of planning, of a run with nothing to do and of one changed clip, by the number of clips.

    python benchmarks/many_clips.py [30 1000 10000 100000] [--cores 2] [--cached] [--no-features] [--plan-only]

Works in a copy of the project, on hard links to a few drawn clips, with the tiny base of the sample. The first run to
the features is real, too: every clip is checked and decoded (with --cached, the clip checks are in the cache); equal
clips share their features. Memory is the peak of Snakemake and its jobs together.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from mobilevideogpt.files import json_digest, write_json
from mobilevideogpt.sample.exercises import EXERCISES
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.render import ClipSpec, write_clip
from mobilevideogpt.source import source_digest
from mobilevideogpt.video.check_cache import check_with_cache
from mobilevideogpt.video.clip_check import check_clips

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "model": {"base": "mobilevideogpt/sample/base", "video_encoder": None, "image_encoder": None},
    "preflight": {"allow_cpu": True},
}


def make_project(folder: Path, clips: int, keep_features: bool = True) -> Path:
    """Copy the code, and add clips, manifest, labels and settings; return one of the clips."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for group, values in SETTINGS.items():
        settings[group] |= values
    settings["features"]["cache"] = keep_features
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    specs = []
    for exercise in EXERCISES:
        spec = ClipSpec(exercise, NO_ISSUE, (1,))
        write_clip(spec, folder / f"drawn/{exercise}.mp4")
        (folder / f"dataset/{exercise}").mkdir(parents=True)
        specs.append(spec)
    labels = []
    for number in range(clips):
        spec = specs[number % len(specs)]
        path = f"{spec.movement}/{number:08d}.mp4"
        os.link(folder / f"drawn/{spec.movement}.mp4", folder / "dataset" / path)
        labels.append({"video_path": path, "labels": [spec.label], "labels_descriptive": [spec.descriptive_label]})
    write_json(labels, folder / "dataset/fine_grained_labels.json")
    manifest = {f"dataset/{label['video_path']}": label["video_path"].split("/")[0] for label in labels}
    write_json(manifest, folder / "dataset/manifest.json")
    return folder / "dataset" / labels[0]["video_path"]


def cache_checks(project: Path) -> None:
    """Fill the cache of clip checks from checks of the few clips that all are links to."""
    settings = yaml.safe_load((project / "config.yaml").read_text())["integrity"]
    limits = {"timeout_seconds": settings["timeout_seconds"], "memory_gb": settings["memory_gb"]}
    checker = [{**limits, "data_root": "dataset"}, source_digest("workflow_scripts/probe_shard.py", root=project)]
    os.chdir(project)  # the paths are relative
    drawn = {Path(path).stem: check for path, check in check_clips(Path("drawn").glob("*.mp4"), workers=2, **limits)}

    def known(paths):
        for path in paths:
            yield path, drawn[Path(path).parent.name] | {"video": path}

    paths = sorted(str(path) for path in Path("dataset").glob("*/*.mp4"))
    check_with_cache(paths, "results/verify/cache", json_digest(checker), known)
    os.chdir(ROOT)


def snakemake(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Run Snakemake; return seconds, the peak memory of all its processes in bytes, and its output.

    Raises:
        SystemExit: If it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        started, peak = time.perf_counter(), 0
        command = [sys.executable, "-m", "snakemake", *arguments]
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(folder), "SNAKEMAKE_LOGGER_STAGES_USUAL": "true"},
        )
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.exit(text[-5000:])
    return seconds, peak, text


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; what they share counts for each."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it has just ended
    return total


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=int, nargs="*", default=[30, 1000, 10_000, 100_000])
    parser.add_argument("--cores", default="2")
    parser.add_argument("--cached", action="store_true", help="the clip checks are in the cache")
    parser.add_argument("--no-features", action="store_true", help="none are kept: 300,000 clips need 270 GB for them")
    parser.add_argument("--plan-only", action="store_true", help="nothing is checked or decoded")
    parser.add_argument("--folder", help="where the projects go; by default the system's temporary folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures = []
    for clips in options.clips:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            project = Path(folder)
            clip = make_project(project, clips, not options.no_features)
            to_features = ("--cores", options.cores, "features")

            def measure(what: str, *arguments: str, project=project, clips=clips) -> str:
                seconds, peak, text = snakemake(project, *arguments)
                print(f"{clips:7,d} clips, {what:28}: {seconds:7.1f} s, {peak / 2**30:.2f} GiB", flush=True)
                figures.append({"clips": clips, "what": what, "seconds": seconds, "peak_bytes": peak})
                return text

            measure("plan of all", "-n", "--quiet", "all")
            if options.plan_only:
                continue
            if options.cached:
                cache_checks(project)
            first = "first run, checks cached" if options.cached else "first run to the features"
            measure(first, *to_features)
            if "Nothing to be done" not in measure("nothing to do", *to_features):
                sys.exit("a second run had jobs to do")
            measure("plan of all, features there", "-n", "--quiet", "all")
            clip.unlink()  # not the file that the others link to
            write_clip(ClipSpec(clip.parent.name, NO_ISSUE, (2,)), clip)
            measure("one changed clip", *to_features)
            if "Nothing to be done" not in snakemake(project, *to_features)[2]:
                sys.exit("one changed clip: a second run had jobs to do")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
