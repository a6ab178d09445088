"""The pre-flight checklist: data set, annotations, model, packages and machine."""

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from mobilevideogpt.annotations.clips import SPLITS, Clip, videos_in
from mobilevideogpt.annotations.findings import Findings
from mobilevideogpt.annotations.groups import read_workers
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.near_duplicates import read_pairs
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.annotations.reports import read_clip_report, read_summary
from mobilevideogpt.annotations.samples import read_samples, unusable
from mobilevideogpt.annotations.spelling import Nearest
from mobilevideogpt.checks import Check, listing, markdown_table
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.machine import DriverError, driver_gpus, free_disk_bytes, library_versions, unmet_requirements
from mobilevideogpt.paths import join_key
from mobilevideogpt.segments import file_of
from mobilevideogpt.tiny_base import WITHOUT_GPU
from mobilevideogpt.verification.clip_report import clip_tables
from mobilevideogpt.verification.duplicates import across_splits, describe
from mobilevideogpt.wording import agree, counted

GIB = 2**30
GB = 1e9
EXERCISES_SHOWN = 6
MIN_CLIPS = 3  # of an exercise, one for each split
SHOWN_LIBRARIES = ("deepspeed", "peft", "snakemake", "torch", "transformers")


def checklist(
    *,
    data_root: str,
    results: str,
    source: str = "qved",
    exclude: Iterable[str] = (),
    label_files: Sequence[str | Path] = (),
    answers: str = "labels",
    model: Mapping[str, str | None] | None = None,
    on_error: str = "stop",
    min_free_disk_gb: float = 0.0,
    allow_cpu: bool = True,
    elsewhere: bool = False,
) -> list[Check]:
    """Check the data set's files, each clip, the annotations, the model's files, the packages and the machine.

    Args:
        data_root: The data set's folder.
        results: Folder of ``verify/report.json`` and ``annotations/``.
        source: Whose data is used, for the list alone.
        exclude: Clips to leave out.
        label_files: Possible files of the labels; the first that exists is used.
        answers: Kind of the labels, see `annotations.labels.read_labels`.
        model: Paths of base and encoders, by name; None for an encoder inside the base.
        on_error: As for `clip_report.clip_report`. With ``leave_out``, clips may be missing.
        min_free_disk_gb: Gigabytes that must be free.
        allow_cpu: Whether the fine-tuning may run without a GPU.
        elsewhere: Whether jobs run on other machines. What the preflight found there then stands for this machine.

    Returns:
        The checks. A fault is a check that failed, never an exception; what a later step makes passes as ``later``.
    """
    clips, manifest_check = _manifest(data_root, exclude)
    report, report_checks = _report(results)
    left_out = unusable(report) if on_error == "leave_out" else ()
    used = [clip for clip in clips if clip.path not in left_out]
    return [
        Check("configuration", True, f"valid; data: {source}"),
        manifest_check,
        _labels(label_files, answers, used, data_root),
        *_optional_files(clips, data_root),
        _files(clips, on_error, data_root),
        _exercises(clips, data_root),
        *report_checks,
        _annotations(results, clips),
        *_leakage(results),
        _model(model or {}),
        _packages(),
        *(_of_preflight(results) if elsewhere else (_gpu(allow_cpu), _memory())),
        _disk(results, min_free_disk_gb),
    ]


def markdown(checks: Iterable[Check], report: Mapping, *, data_root: str) -> str:
    """Return the checklist as a page, with the clips of each exercise and those with a warning or an error."""
    clips, _ = _manifest(data_root, exclude=())
    tables = clip_tables(report["clips"], {clip.path: clip.exercise for clip in clips})
    return "\n".join(["# Data set check", "", *markdown_table(checks), "", *tables]) + "\n"


def _manifest(data_root: str, exclude: Iterable[str]) -> tuple[list[Clip], Check]:
    manifest = f"{data_root}/manifest.json"
    try:
        clips = read_manifest(manifest, data_root, exclude)
        named = {join_key(file_of(clip.path)) for clip in read_manifest(manifest, data_root)}
        found = (f"{data_root}/{file}".encode(errors="backslashreplace").decode() for file in videos_in(data_root))
        others = sorted(path for path in found if join_key(path) not in named)
    except InputError as error:
        return [], Check("manifest", False, str(error))
    detail = f"{manifest}: {counted(len(clips), 'clip{s}')}"
    if not others:
        return clips, Check("manifest", True, detail)
    also = f"{counted(len(others), 'clip{s}')} in {data_root}/ {agree(len(others), '{is|are}')} in no manifest"
    return clips, Check(
        "manifest", True, f"{detail}; {also}: {listing(others)}", "`snakemake manifest` adds them", later=True
    )


def _labels(label_files: Sequence[str | Path], answers: str, clips: list[Clip], data_root: str) -> Check:
    if answers == "folders":
        return Check("labels", True, "none needed: the answer is the exercise (annotations.source: folders)")
    found = next((file for file in label_files if os.path.exists(file)), None)
    if found is None:
        remedy = f"`snakemake manifest` writes a template; or add one of {', '.join(map(str, label_files))}"
        return Check("labels", not label_files, "no label file", remedy)
    findings = Findings()
    try:
        labels = read_labels(found, data_root, answers)
        matched = join_labels(clips, labels, answers, findings, data_root=data_root).by_clip if clips else {}
    except InputError as error:
        return Check("labels", False, str(error))
    finally:
        findings.log()
    have = f"{len(matched)} of {counted(len(clips), 'clip{s} {has|have}')} one"
    return Check("labels", True, f"{found}: {have}")


def _optional_files(clips: list[Clip], data_root: str) -> list[Check]:
    """Check the file of persons and that of pinned splits, where the user has one."""
    workers, pins = f"{data_root}/fine_grained_labels_with_worker_ids.json", f"{data_root}/splits.csv"
    checks = [
        _optional_file("persons", workers, lambda: read_workers(workers, clips, data_root), clips),
        _optional_file("pinned splits", pins, lambda: read_pins(pins, data_root), clips),
    ]
    return [check for check in checks if check]


def _optional_file(name: str, file: str, read: Callable[[], Iterable[str]], clips: list[Clip]) -> Check | None:
    if not os.path.exists(file):
        return None
    try:
        named = {join_key(clip.path) for clip in clips} & set(map(join_key, read()))
    except InputError as error:
        return Check(name, False, str(error))
    return Check(name, True, f"{file}: names {len(named)} of {counted(len(clips), 'clip{s}')}")


def _files(clips: list[Clip], on_error: str, data_root: str) -> Check:
    files = dict.fromkeys(file_of(clip.path) for clip in clips)
    missing = [file for file in files if not os.path.exists(file)]
    ok = bool(clips) and (not missing or (on_error == "leave_out" and len(missing) < len(files)))
    hint = ""
    if missing:
        others = {f"{data_root}/{file}" for file in videos_in(data_root)} - files.keys()
        nearest = Nearest(path.encode(errors="backslashreplace").decode() for path in others).to(missing[0])
        hint = f" (the most similar name in the folder is {nearest})" if nearest else ""
    remedy = f"missing: {listing(missing)}{hint}; copy the clips there, or list them in dataset.exclude"
    return Check("files are there", ok, f"{len(files) - len(missing)} of {len(files)}", remedy)


def _exercises(clips: list[Clip], data_root: str) -> Check:
    counts = Counter(clip.exercise for clip in clips)
    sizes = set(counts.values())
    each = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes, default=0)} to {max(sizes, default=0)}"
    detail = f"{counted(len(counts), 'exercise{s}')}, {each} {agree(max(sizes, default=0), 'clip{s}')} each"
    if len(sizes) > 1:
        detail += f": {listing([f'{exercise} {count}' for exercise, count in sorted(counts.items())], EXERCISES_SHOWN)}"
    few = sorted(exercise for exercise, count in counts.items() if count < MIN_CLIPS)
    if few:
        detail += f"; fewer than {MIN_CLIPS}, one for each split: {listing(few)}"
    return Check("clips per exercise", bool(clips), detail, f"add clips as {data_root}/<exercise>/<clip>.mp4")


def _report(results: str) -> tuple[Mapping, list[Check]]:
    """Read the report of the clip check, and its checks."""
    remedy = "run `snakemake verify` again"
    try:
        report = read_clip_report(f"{results}/verify/report.json", remedy)
    except InputError as error:
        return {"clips": []}, [Check("clips decode in full", False, str(error))]
    return report, [Check(**check) for check in report["checks"]]


def _annotations(results: str, clips: list[Clip]) -> Check:
    files = [Path(results, f"annotations/qved_{split}.json") for split in SPLITS]
    files = [file for file in files if file.exists()]
    if not files:
        return Check("annotations", True, "not made yet", "`snakemake annotations` makes them", later=True)
    try:
        videos = {file.name: [sample["video"] for sample in read_samples(file)] for file in files}
    except InputError as error:
        return Check("annotations", False, str(error))
    paths = {clip.path for clip in clips}
    lost = [
        video for of_split in videos.values() for video in of_split if not (video in paths and Path(video).exists())
    ]
    detail = ", ".join(f"{name} {len(of_split)}" for name, of_split in videos.items())
    if not lost:
        detail += "; every path is that of a clip"
    return Check("annotations", not lost, detail, f"no such clip: {listing(lost)}; run `snakemake annotations`")


def _leakage(results: str) -> list[Check]:
    """Report leakage across splits, as far as it can be found: the scores on test would be too high."""
    try:
        files = [f"{results}/annotations/qved_{split}.json" for split in SPLITS]
        splits = {sample["video"]: sample["split"] for file in files for sample in read_samples(file)}
        split = read_summary(f"{results}/annotations/summary.json", "build_annotations")["split"]
        duplicates = read_pairs(f"{results}/verify/duplicates.json")
    except InputError:
        return []  # not made yet, which the check of the annotations reports
    leaks, pairs = split["leaks"], across_splits(duplicates, splits)
    found = [f"{split['groups']} groups by {split['source']}"]
    if leaks:
        found.append(f"{counted(len(leaks), 'recording{s} or person{s}')} in several splits: {listing(leaks)}")
    found.append(describe(pairs))
    remedy = "" if pairs else "correct splits.csv or the labels"  # the pairs' own sentence ends with theirs
    return [Check("leakage across splits", not leaks and not pairs, "; ".join(found), remedy)]


def _model(paths: Mapping[str, str | None]) -> Check:
    missing = [path for path in paths.values() if path and not Path(path).exists()]
    if not missing:
        return Check("model", True, "all files are here")
    remedy = f"`snakemake finetune` downloads {agree(len(missing), '{it|them}')}; `snakemake fetch` does so beforehand"
    return Check("model", True, f"not here yet: {listing(missing)}", remedy, later=True)


def _packages() -> Check:
    problems = unmet_requirements("mobilevideogpt")
    shown = [f"{name} {version}" for name, version in library_versions(SHOWN_LIBRARIES).items() if version != "none"]
    detail = "; ".join(problems) or f"Python {platform.python_version()}, {', '.join(shown)}"
    return Check("packages", not problems, detail, "run `make finetune` again, or `pip install -e .`")


def _gpu(allow_cpu: bool) -> Check:
    gpus, reason = [], ""
    try:
        gpus = driver_gpus()
    except DriverError as error:
        reason = f" ({error})"
    found = [f"{gpu.name}, {gpu.free_bytes / GIB:.1f} of {gpu.memory_bytes / GIB:.1f} GiB free" for gpu in gpus]
    detail = listing(found) or f"none found{reason}{'; the CPU is used' if allow_cpu else ''}"
    remedy = f"use a machine with a GPU; {WITHOUT_GPU}"
    return Check("GPU", bool(gpus) or allow_cpu, detail, remedy)


def _of_preflight(results: str) -> list[Check]:
    """Return what the preflight, a job like the training, found on its machine."""
    file, shape = f"{results}/preflight.json", {"checks": [{"name": str, "ok": bool, "detail": str, "remedy": str}]}
    try:
        found = {check["name"]: Check(**check) for check in read_json(file, shape=shape)["checks"]}
    except InputError:
        detail = "of the machine that trains, not this one; no job has run there yet"
        return [Check("GPU", True, detail, "`snakemake preflight` looks at it", later=True)]
    there = {"GPU": found.get("device"), "memory of a step": found.get("memory")}
    return [
        replace(check, name=name, detail=f"{check.detail}; found by {file}") for name, check in there.items() if check
    ]


def _memory() -> Check:
    memory = psutil.virtual_memory()
    free, total = memory.available / GIB, memory.total / GIB
    return Check("machine", True, f"{os.cpu_count()} cores, {free:.1f} of {total:.1f} GiB of memory free")


def _disk(results: str, min_free_disk_gb: float) -> Check:
    free = free_disk_bytes(results) / GB
    remedy = f"free some space, or lower preflight.min_free_disk_gb, which is {min_free_disk_gb:g}"
    return Check("disk", free >= min_free_disk_gb, f"{free:.1f} GB free for {results}/", remedy)
