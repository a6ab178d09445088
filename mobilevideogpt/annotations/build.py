"""Build the annotations of a data set from its files. Standard library only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.annotations.clips import SPLITS, Clip
from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.groups import RECORDING, read_workers
from mobilevideogpt.annotations.join import Matched, ground_truth, join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.annotations.samples import unusable
from mobilevideogpt.annotations.splits import Splits, assign_splits
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json


@dataclass(frozen=True)
class Built:
    """The annotations of a data set.

    Attributes:
        annotations: The samples of each split.
        ground_truth: The label file's entries of the clips in use.
        summary: See `summarise`.
    """

    annotations: dict[str, list[dict]]
    ground_truth: list[dict]
    summary: dict


def build(
    manifest: str | Path,
    labels: str | Path,
    *,
    data_root: str,
    prompt: str,
    split: Mapping[str, float],
    seed: int,
    source: str = "labels",
    split_source: str = "auto",
    recording_pattern: str = RECORDING,
    exclude: Iterable[str] = (),
    workers: str | Path | None = None,
    pins: str | Path | None = None,
    integrity: str | Path | None = None,
) -> Built:
    """Match labels to clips, split the clips and make the samples; log every finding.

    Args:
        manifest: See `read_manifest`.
        labels: See `read_labels`.
        data_root: The data set's folder, relative to the project.
        prompt: Template of the question, see `build_prompt`.
        split: Fractions of ``train``, ``val`` and ``test``, see `assign_splits`.
        seed: Seed of the split.
        source: Kind of the label file, see `read_labels`.
        split_source: Whether the label file's own split is used, see `assign_splits`.
        recording_pattern: See `recordings_of`.
        exclude: Clips to leave out.
        workers: File of the persons, see `read_workers`.
        pins: ``splits.csv``, see `read_pins`.
        integrity: ``verify/report.json``, to leave out the clips that cannot be used.

    Raises:
        InputError: If a file is malformed or a clip cannot be used as the settings ask.
    """
    findings = Findings()
    try:
        clips = read_manifest(manifest, data_root, exclude, findings)
        if integrity:
            clips = _usable(clips, integrity, findings)
        matched = join_labels(clips, read_labels(labels, data_root, source, findings), source, findings)
        splits = assign_splits(
            clips,
            matched.by_clip,
            split,
            seed,
            source=split_source,
            workers=read_workers(workers, clips, data_root) if workers else None,
            pins=read_pins(pins, data_root) if pins else None,
            recording_pattern=recording_pattern,
            findings=findings,
        )
        annotations = build_annotations(clips, matched, splits.by_clip, prompt_template=prompt)
    finally:
        findings.log()  # also before an error, which they may explain
    return Built(annotations, ground_truth(matched), summarise(clips, matched, splits, annotations, findings))


def _usable(clips: list[Clip], integrity: str | Path, findings: Findings) -> list[Clip]:
    """Leave out the clips whose status in the report is error."""
    problems = unusable(read_json(integrity))
    findings.add(Code.UNUSABLE_CLIP, *(f"{clip}: {'; '.join(texts)}" for clip, texts in problems.items()))
    usable = [clip for clip in clips if clip.path not in problems]
    if not usable:
        page = Path(integrity).with_name("report.md")
        raise InputError(f"{integrity}: none of the {len(clips)} clips can be used; fix one or more, see {page}")
    return usable


def summarise(
    clips: Iterable[Clip],
    matched: Matched,
    splits: Splits,
    annotations: Mapping[str, list[dict]],
    findings: Findings,
) -> dict:
    """Count the clips and the samples, and list the findings.

    Returns:
        ``clips`` (of the manifest), ``joined_by_path`` (number), ``splits`` (clips of each split), ``conversations``
        (samples of each split), ``exercises`` (clips of each exercise in each split), ``split`` (``source``,
        ``groups``, ``notices`` and ``leaks``), ``findings`` (``code``, ``reason``, ``count`` and ``items`` each).
    """
    exercise = {clip.path: clip.exercise for clip in clips}
    exercises: dict[str, dict[str, int]] = {name: dict.fromkeys(SPLITS, 0) for name in sorted({*exercise.values()})}
    for name, samples in annotations.items():
        for video in {sample["video"] for sample in samples}:
            exercises[exercise[video]][name] += 1
    return {
        "clips": len(exercise),
        "joined_by_path": matched.by_path,
        "splits": {name: len({sample["video"] for sample in samples}) for name, samples in annotations.items()},
        "conversations": {name: len(samples) for name, samples in annotations.items()},
        "exercises": exercises,
        "split": {
            "source": splits.source,
            "groups": splits.groups,
            "notices": [sentence for _, sentence in findings.notices],
            "leaks": splits.leaks,
        },
        "findings": [row for row in findings.summary() if row["code"] != Code.LEAK],  # "leaks" lists them
    }
