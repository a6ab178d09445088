"""The pre-flight checklist: what was found, whether it is well, and what to do if not."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TextIO

import psutil
from packaging.requirements import Requirement

from mobilevideogpt.annotations.groups import read_workers
from mobilevideogpt.annotations.labels import join_records
from mobilevideogpt.annotations.labels import read_records as read_label_records
from mobilevideogpt.annotations.manifest import Clip, read_manifest, videos_in
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.annotations.samples import read_annotations, unusable
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.paths import join_key
from mobilevideogpt.verification.duplicates import describe, near_duplicates
from mobilevideogpt.video.clip_check import out_of_bounds
from mobilevideogpt.video.reencode_reasons import NEEDS


def _check(name: str, ok: bool, detail: str, remedy: str = "") -> dict:
    return {"name": name, "ok": ok, "detail": detail, "remedy": "" if ok else remedy}


def _some(items: Sequence[str], limit: int = 3) -> str:
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def read_records(files: Iterable[str | Path]) -> Iterator[dict]:
    """Read integrity records from files that hold one, or a list of them."""
    for file in files:
        found = read_json(file, remedy="delete it, and run `snakemake verify` again")
        yield from found if isinstance(found, list) else [found]


def summarise(
    records: Iterable[dict],
    *,
    bounds: Mapping[str, Sequence[float | None]] | None = None,
    normalised: Mapping[str, Mapping] | None = None,
    on_error: str = "stop",
) -> dict:
    """Gather integrity records and say of each clip which file is used for it, if any.

    Args:
        records: Of `integrity.probe_many`.
        bounds: Of the quality, as `integrity.out_of_bounds` takes them.
        normalised: What `normalised.normalise_clips` made, if it is to be used.
        on_error: ``stop``: a clip with an error is a check that is not ok; ``leave_out``: it is, while others are left.

    Returns:
        ``{"ok": bool, "checks": [{name, ok, detail, remedy}], "clips": [{video, verdict, problems, file, digest}]}``:
        ``file`` is what is decoded for the clip, and ``digest`` that file's.
    """
    clips = [_clip(record, bounds or {}, (normalised or {}).get(record["video"])) for record in records]
    clips.sort(key=lambda clip: clip["video"])
    verdicts = Counter(clip["verdict"] for clip in clips)
    errors = [clip["video"] for clip in clips if clip["verdict"] == "error"]
    counted = f"{verdicts['ok']} ok, {verdicts['warning']} with a warning, {len(errors)} with an error"
    leave_out = on_error == "leave_out" and len(errors) < len(clips)
    if errors and leave_out:
        counted += ", which are left out"
    ok = bool(clips) and (leave_out or not errors)
    remedy = f"{_some(errors)}: verify/report.md tells what to do; integrity.on_error: leave_out goes on without"
    check = _check("clips decode in full", ok, f"{len(clips)} clips: {counted}", remedy)
    return {"ok": ok, "checks": [check], "clips": clips}


def _clip(record: Mapping, bounds: Mapping, new: Mapping | None) -> dict:
    clip = {name: record[name] for name in ("video", "verdict", "problems", "digest")} | {"file": record["video"]}
    if new is not None and new["of"] == record["digest"]:
        if "problem" in new:
            clip["problems"] = [*clip["problems"], f"its re-encoded file is no better: it {new['problem']}"]
        else:
            why = ", ".join(filter(None, (NEEDS[need].problem for need in record["reencode"])))
            why = f": the clip {why}" if why else ""
            clip |= {"file": new["file"], "digest": new["digest"], "verdict": "warning"}
            clip["problems"] = [f"its re-encoded file {new['file']} is used{why}"]
    if poor := out_of_bounds(record, bounds):
        clip |= {"verdict": "error", "problems": [*clip["problems"], *poor]}
    return clip


def markdown(checks: Sequence[Mapping], report: Mapping) -> str:
    """The checklist as a page, with the clips of each exercise and each clip that is not simply well."""
    lines = ["# Data set check", "", "| | check | found |", "| --- | --- | --- |"]
    for check in checks:
        found = check["detail"] + (f"; {check['remedy']}" if check["remedy"] else "")
        lines.append(f"| {'ok' if check['ok'] else '**wrong**'} | {check['name']} | {_cell(found)} |")
    exercises = Counter(Path(clip["video"]).parent.name for clip in report["clips"])
    lines += ["", "| exercise | clips |", "| --- | ---: |"]
    lines += [f"| {_cell(exercise)} | {count} |" for exercise, count in sorted(exercises.items())]
    noted = [clip for clip in report["clips"] if clip["verdict"] != "ok"]
    if noted:
        lines += ["", "| clip | verdict | problem and remedy |", "| --- | --- | --- |"]
        lines += [f"| {_cell(c['video'])} | {c['verdict']} | {_cell('; '.join(c['problems']))} |" for c in noted]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def verify_checks(
    *,
    data_root: str,
    results: str,
    exclude: Iterable[str] = (),
    label_files: Sequence[str | Path] = (),
    answers: str = "labels",
    model: Mapping[str, str | None] | None = None,
    on_error: str = "stop",
    min_free_disk_gb: float = 0.0,
    allow_cpu: bool = True,
) -> list[dict]:
    """Check the data set's files, each clip, the annotations, the model's files, the packages and the machine.

    Args:
        data_root: The data set's folder.
        results: Holds ``verify/report.json`` and ``annotations/``.
        exclude: Clips that are left out.
        label_files: Files of which one must be there and say something of each clip; the first that is there counts.
        answers: Their kind, as `labels.read_records` takes it.
        model: Where base and encoders lie or will lie, None for one that is inside the base.
        on_error: As for `summarise`: ``leave_out`` lets clips be missing.
        min_free_disk_gb: Gigabytes that must be free.
        allow_cpu: Whether the fine-tuning goes on without a GPU.

    Returns:
        ``{name, ok, detail, remedy}`` each; what is wrong is a check that is not ok, never an exception.
    """
    manifest = f"{data_root}/manifest.json"
    try:
        clips = read_manifest(manifest, data_root, exclude)
        named = {join_key(clip.path) for clip in read_manifest(manifest, data_root)}
        there = (f"{data_root}/{file}".encode(errors="backslashreplace").decode() for file in videos_in(data_root))
        spare = sorted(path for path in there if join_key(path) not in named)
        also = f"; it does not name {len(spare)} others that are there: {_some(spare)}" if spare else ""
        checks = [_check("manifest", True, f"{manifest}: {len(clips)} clips{also}")]
    except InputError as error:
        clips, checks = [], [_check("manifest", False, str(error), "see the message")]
    report = _report(results)
    left_out = unusable(report) if on_error == "leave_out" else ()
    used = [clip for clip in clips if clip.path not in left_out]
    checks += [_labels(label_files, answers, used, data_root), *_optional(clips, data_root)]
    checks += [*_clips(clips, data_root, on_error), *report["checks"]]
    checks += [_annotations(results, clips), *_leaks(results), _model(model or {}), _packages()]
    return [*checks, _gpu(allow_cpu), _machine(), _disk(results, min_free_disk_gb)]


def _labels(label_files: Sequence[str | Path], answers: str, clips: list[Clip], data_root: str) -> dict:
    found = next((file for file in label_files if os.path.exists(file)), None)
    if found is None:
        return _check("labels", not label_files, "no label file", f"add one of {', '.join(map(str, label_files))}")
    try:
        records = read_label_records(found, data_root, answers)
        matched = join_records(clips, records, answers).by_clip if clips else {}
    except InputError as error:
        return _check("labels", False, str(error), "see the message")
    return _check("labels", True, f"{found}: {len(matched)} of {len(clips)} clips have one")


def _optional(clips: list[Clip], data_root: str) -> list[dict]:
    """Who is seen, and what is pinned, where the user has such a file."""
    workers, pins = f"{data_root}/fine_grained_labels_with_worker_ids.json", f"{data_root}/splits.csv"
    readers = {
        "persons": (workers, lambda: read_workers(workers, clips, data_root)),
        "pinned splits": (pins, lambda: read_pins(pins, data_root)),
    }
    paths, checks = {join_key(clip.path) for clip in clips}, []
    for name, (file, read) in readers.items():
        if os.path.exists(file):
            try:
                known = len(paths & set(map(join_key, read())))
                checks.append(_check(name, True, f"{file}: speaks of {known} of {len(clips)} clips"))
            except InputError as error:
                checks.append(_check(name, False, str(error), "see the message"))
    return checks


def _clips(clips: list[Clip], data_root: str, on_error: str) -> list[dict]:
    missing = [clip.path for clip in clips if not os.path.exists(clip.path)]
    counts = Counter(clip.exercise for clip in clips)
    sizes = set(counts.values())
    each = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes, default=0)} to {max(sizes, default=0)}"
    detail = f"{len(counts)} exercises, {each} clips each"
    if len(sizes) > 1:
        detail += f": {_some([f'{exercise} {count}' for exercise, count in sorted(counts.items())], 6)}"
    few = sorted(exercise for exercise, count in counts.items() if count < 3)
    if few:
        detail += f"; fewer than 3, one for each split: {_some(few)}"
    remedy = f"not there: {_some(missing)}; put the clips there or list them in dataset.exclude"
    enough = bool(clips) and (not missing or (on_error == "leave_out" and len(missing) < len(clips)))
    there = _check("files are there", enough, f"{len(clips) - len(missing)} of {len(clips)}", remedy)
    return [there, _check("clips per exercise", bool(clips), detail, f"put clips at {data_root}/<exercise>/<clip>.mp4")]


def _report(results: str) -> Mapping:
    try:
        return read_json(f"{results}/verify/report.json", remedy="run `snakemake verify` again")
    except InputError as error:
        wrong = _check("clips decode in full", False, str(error), "run `snakemake verify` again")
        return {"checks": [wrong], "clips": []}


def _annotations(results: str, clips: list[Clip]) -> dict:
    paths = {clip.path for clip in clips}
    files = [
        file for split in ("train", "val", "test") if (file := Path(results, f"annotations/qved_{split}.json")).exists()
    ]
    if not files:
        return _check("annotations", True, "not made yet; `snakemake annotations` makes them")
    try:
        counts = {file.name: [record["video"] for record in read_annotations(file)] for file in files}
    except InputError as error:
        return _check("annotations", False, str(error), "run `snakemake annotations`")
    videos = [video for listed in counts.values() for video in listed]
    lost = [video for video in videos if video not in paths or not os.path.exists(video)]
    detail = ", ".join(f"{name} {len(listed)}" for name, listed in counts.items())
    if not lost:
        detail += "; every path is a clip's"
    return _check("annotations", not lost, detail, f"no such clip: {_some(lost)}; run `snakemake annotations`")


def _leaks(results: str) -> list[dict]:
    """What is in two splits, as far as that can be told: a warning, since it may be meant so."""
    try:
        files = [f"{results}/annotations/qved_{split}.json" for split in ("train", "val", "test")]
        splits = {row["video"]: row["split"] for file in files for row in read_annotations(file)}
        split = read_json(f"{results}/annotations/summary.json")["split"]
        hashes = read_json(f"{results}/verify/hashes.json")
    except InputError:
        return []  # not made yet; `_annotations` speaks of it
    leaks = split["leaks"]
    parted = [f"recordings or persons in several splits, {len(leaks)}: {_some(leaks)}"] if leaks else []
    found = "; ".join([*parted, describe(near_duplicates(hashes, splits))])
    return [_check("leaks between splits", True, f"{split['groups']} groups by {split['source']}; {found}")]


def _model(places: Mapping[str, str | None]) -> dict:
    absent = [place for place in places.values() if place and not Path(place).exists()]
    detail = f"not here yet: {_some(absent)}; `snakemake fetch` downloads it" if absent else "all files are here"
    return _check("model", True, detail)


def _packages(distribution: str = "mobilevideogpt") -> dict:
    shown, wrong = [], []
    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
        if requirement.name in ("torch", "transformers", "peft", "deepspeed", "snakemake"):
            shown.append(f"{requirement.name} {version}")
    detail = "; ".join(wrong) or f"Python {sys.version.split()[0]}, " + ", ".join(sorted(shown))
    return _check("packages", not wrong, detail, "run `make finetune` again, or `pip install -e .`")


def _gpu(allow_cpu: bool) -> dict:
    """Name and memory."""
    import pynvml

    found, reason = [], ""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            name, memory = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
            found.append(f"{name}, {memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        reason = f" ({error})"
    detail = _some(found) or f"none found{reason}{'; the CPU is used' if allow_cpu else ''}"
    remedy = "use a machine with a GPU, or set preflight.allow_cpu: true and be patient"
    return _check("GPU", bool(found) or allow_cpu, detail, remedy)


def _machine() -> dict:
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    return _check("machine", True, f"{os.cpu_count()} cores, {free:.1f} of {total:.1f} GiB of memory free")


def _disk(results: str, min_free_disk_gb: float) -> dict:
    folder = Path(results)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    remedy = f"free some space: {min_free_disk_gb:g} GB are asked for (preflight.min_free_disk_gb)"
    return _check("disk", free >= min_free_disk_gb, f"{free:.1f} GB free for {results}/", remedy)


def print_checks(checks: Sequence[dict], file: TextIO | None = None) -> None:
    """Print an aligned table, with a remedy under each check that is not ok."""
    width = max(len(check["name"]) for check in checks)
    for check in checks:
        print(f"{'ok' if check['ok'] else 'WRONG':5}  {check['name']:{width}}  {check['detail']}", file=file)
        if not check["ok"]:
            print(f"{'':5}  {'':{width}}  -> {check['remedy']}", file=file)
    wrong = sum(not check["ok"] for check in checks)
    print(f"\n{'all is well' if not wrong else f'{wrong} of {len(checks)} checks are not well'}", file=file)
