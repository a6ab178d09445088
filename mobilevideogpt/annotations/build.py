"""Build the annotations of a data set from its files. Standard library only.

A fault of the labels has to be known in seconds, not after hours of decoding. Copies of a recording under other names
are known only by their frames. So the annotations are built twice: as a draft before any clip is decoded
(`check_labels`), and in full once the frames are compared.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.annotations.answers import are_free_text, least_tokens, names_exercise, without_exercise
from mobilevideogpt.annotations.clips import SPLITS, Clip
from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.copies import equal_files
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.groups import RECORDING, read_workers
from mobilevideogpt.annotations.join import Matched, ground_truth, join_labels
from mobilevideogpt.annotations.labels import labels_of_folders, read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.near_duplicates import read_pairs, same_by_frames
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.annotations.reports import read_clip_report
from mobilevideogpt.annotations.samples import cannot_be_used, doubtful, prompt_and_response, unusable
from mobilevideogpt.annotations.splits import Splits, assign_splits
from mobilevideogpt.errors import InputError
from mobilevideogpt.segments import file_of

SHOWN = 10  # names of a group of equal files
UNBALANCED = 3  # times as many training clips of one exercise as of another


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
    labels: str | Path | None,
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
    leave_out: bool = True,
    duplicates: str | Path | None = None,
    max_new_tokens: int | None = None,
    complete: bool = True,
    draft: bool = False,
) -> Built:
    """Match labels to clips, split the clips and make the samples; log every finding, of a draft only before an error.

    Args:
        manifest: See `read_manifest`.
        labels: See `read_labels`; None with source ``folders``.
        data_root: The data set's folder, relative to the project.
        prompt: Template of the question, see `build_prompt`.
        split: Fractions of ``train``, ``val`` and ``test``, see `assign_splits`.
        seed: Seed of the split.
        source: Kind of the label file, see `read_labels`; or ``folders``, see `labels_of_folders`.
        split_source: Whether the label file's own split is used, see `assign_splits`.
        recording_pattern: See `recordings_of`.
        exclude: Clips to leave out.
        workers: File of the persons, see `read_workers`.
        pins: ``splits.csv``, see `read_pins`.
        integrity: ``verify/report.json``.
        leave_out: Whether clips that cannot be used are left out; else they are an error.
        duplicates: ``verify/duplicates.json``, to keep copies together whatever their names and bytes.
        max_new_tokens: ``evaluate.max_new_tokens``; None if it follows from the answers.
        complete: Whether all clips need a label; False as long as clips that cannot be used are among them.
        draft: Whether the annotations will be built again.

    Raises:
        InputError: If a file is malformed or a clip cannot be used as the settings ask.
    """
    findings = Findings()
    try:
        clips = read_manifest(manifest, data_root, exclude, findings)
        known: dict[str, str] = {}
        if integrity:
            report = read_clip_report(integrity)
            clips = _usable(clips, report, integrity, leave_out, findings)
            known = {file_of(clip["file"]): clip["digest"] for clip in report["clips"] if clip["digest"]}
        read = read_labels(labels, data_root, source, findings) if labels else labels_of_folders(clips, data_root)
        matched = join_labels(
            clips,
            read,
            source,
            findings if labels else Findings(),  # nothing about the exercises of folders is guessed
            data_root=data_root,
            complete=complete,
        )
        equal = equal_files(dict.fromkeys(file_of(clip.path) for clip in clips), known)
        findings.add(Code.EQUAL_FILES, *map(_equation, equal))
        alike = read_pairs(duplicates) if duplicates else []
        frames = same_by_frames(alike, {file_of(path) for path in matched.by_clip}, equal, findings)
        splits = assign_splits(
            clips,
            matched.by_clip,
            split,
            seed,
            source=split_source,
            workers=read_workers(workers, clips, data_root) if workers else None,
            pins=read_pins(pins, data_root) if pins else None,
            recording_pattern=recording_pattern,
            same=[*equal, *frames],
            findings=findings,
        )
        annotations = build_annotations(clips, matched, splits.by_clip, prompt_template=prompt, groups=splits.group_of)
        check_answers(annotations, source, max_new_tokens, findings)
        check_control(annotations["test"], source, findings)
        check_balance(annotations["train"], {clip.exercise for clip in clips}, findings)
    except InputError:
        findings.log()  # they may explain it
        raise
    if not draft:
        findings.log()
    return Built(annotations, ground_truth(matched), summarise(clips, matched, splits, annotations, findings))


def _equation(paths: list[str]) -> str:
    """Name the files of a group, of a large one the first."""
    more = len(paths) - SHOWN
    return " = ".join(paths[:SHOWN]) + (f" = ... ({more:,} more)" if more > 0 else "")


def _usable(
    clips: list[Clip], report: Mapping, integrity: str | Path, leave_out: bool, findings: Findings
) -> list[Clip]:
    """Leave out the clips whose status in the report is error, and list them and those with a warning.

    Raises:
        InputError: If no clip is left, or clips may not be left out.
    """
    given = {clip.path for clip in clips}
    problems = {clip: texts for clip, texts in unusable(report).items() if clip in given}
    if problems and not leave_out:
        raise InputError(cannot_be_used(problems, len(clips), integrity))
    findings.add(Code.UNUSABLE_CLIP, *(f"{clip}: {'; '.join(texts)}" for clip, texts in problems.items()))
    warned = {clip: texts for clip, texts in doubtful(report).items() if clip in given}
    if leave_out:
        findings.add(Code.DOUBTFUL_CLIP, *(f"{clip}: {'; '.join(texts)}" for clip, texts in warned.items()))
    usable = [clip for clip in clips if clip.path not in problems]
    if not usable:
        page = Path(integrity).with_name("report.md")
        raise InputError(f"{integrity}: none of the {len(clips)} clips can be used; fix one or more, see {page}")
    return usable


def check_answers(
    annotations: Mapping[str, list[dict]], source: str, max_new_tokens: int | None, findings: Findings
) -> None:
    """Say whether the answers are free text, and which are longer than the model may answer.

    The length is a lower bound (`least_tokens`): what is listed is too long for certain. The tokenizer's own count is
    the preflight's.
    """
    answers = [
        (sample["video"], sample["exercise"], prompt_and_response(sample)[1])
        for samples in annotations.values()
        for sample in samples
    ]
    if are_free_text((answer, exercise) for _, exercise, answer in answers):
        other = [entry for entry in answers if not names_exercise(entry[2], entry[1])]
        video, exercise, answer = other[0]
        findings.notice(
            Code.FREE_TEXT_LABELS if source == "labels" else Code.FREE_TEXT,
            named=len(answers) - len(other),
            count=len(answers),
            example=f"{video} is {exercise!r}, its answer begins {answer[:40]!r}",
        )
    if max_new_tokens is not None:
        lengths = ((video, least_tokens(answer)) for video, _, answer in answers)
        long = [f"{video} (at least {count} tokens)" for video, count in lengths if count > max_new_tokens]
        findings.add(Code.LONG_ANSWER, *long)


def check_control(samples: list[dict], source: str, findings: Findings) -> None:
    """Say if no test clip can be shown in place of another one, so that a control is not possible.

    The clip must show another exercise. For questions, the same must be asked about it, with another answer.

    Args:
        samples: Those of the test split.
        source: See `build`.
        findings: Collects the notice.
    """
    exercises = {sample["exercise"] for sample in samples}
    if len(exercises) == 1:
        findings.notice(Code.ONE_EXERCISE_IN_TEST, exercise=exercises.pop())
    elif samples and source == "questions":
        asked = defaultdict(lambda: (set(), set()))  # question -> exercises and answers
        for sample in samples:
            question, answer = prompt_and_response(sample)
            of_question, answers = asked[without_exercise(question, sample["exercise"])]
            of_question.add(sample["exercise"])
            answers.add(answer)
        # With two of both, there are two clips that differ in both.
        if all(len(of_question) < 2 or len(answers) < 2 for of_question, answers in asked.values()):
            findings.notice(Code.NO_SHARED_QUESTION)


def check_balance(samples: list[dict], exercises: Collection[str], findings: Findings) -> None:
    """Say if one exercise has `UNBALANCED` times as many training clips as another.

    Args:
        samples: Those of the training split.
        exercises: Those of all clips, of which the training split may lack one.
        findings: Collects the notice.
    """
    counts = dict.fromkeys(sorted(exercises), 0)
    for _, exercise in {(sample["video"], sample["exercise"]) for sample in samples}:
        counts[exercise] += 1
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[most] >= UNBALANCED * max(counts[least], 1):
        findings.notice(Code.UNBALANCED, most=most, largest=counts[most], least=least, smallest=counts[least])


def splits_sentence(summary: Mapping) -> str:
    """Say how many clips each split has, and who decided it.

    Args:
        summary: See `summarise`.
    """
    names = {"train": "train", "val": "validation", "test": "test"}
    counts = ", ".join(f"{count} {names[split]}" for split, count in summary["splits"].items() if count)
    origin = "as the label file says" if summary["split"]["source"] == "labels" else "drawn within each exercise"
    return f"Splits: {counts}, {origin}"


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
        ``groups``, ``notices``, ``unbalanced``, one of these or None, and ``leaks``), ``findings`` (``code``,
        ``reason``, ``count`` and ``items`` each).
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
            "unbalanced": next((sentence for code, sentence in findings.notices if code == Code.UNBALANCED), None),
            "leaks": splits.leaks,
        },
        "findings": [row for row in findings.summary() if row["code"] != Code.LEAK],  # "leaks" lists them
    }
