"""Annotation files: a prompt and an answer a clip, in the conversation layout of LLaVA. Standard library only."""

import string
from collections.abc import Iterable, Mapping

from mobilevideogpt.annotations.labels import Matched
from mobilevideogpt.annotations.manifest import Clip, Findings
from mobilevideogpt.annotations.splits import SPLITS, Splits
from mobilevideogpt.errors import InputError

LISTED = 1000  # clips or records listed for each reason; all are counted


def build_prompt(template: str, exercise: str) -> str:
    """Fill ``{exercise}``, underscores as spaces, and put ``<video>`` in front unless the template places it.

    Raises:
        InputError: If the template has another placeholder, an unpaired brace, or more than one ``<video>``.
    """
    where = f"annotations.prompt {template!r}"
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InputError(f"{where}: {error}; double a brace to have it in the text") from None
    if unknown := sorted(fields - {"exercise"}):
        raise InputError(f"{where}: unknown placeholder {{{unknown[0]}}}; only {{exercise}} can be filled in")
    text = template.format(exercise=exercise.replace("_", " ")).strip()
    if not text.replace("<video>", "").strip():
        raise InputError(f"{where}: asks nothing; write a question or an instruction")
    if text.count("<video>") > 1:
        raise InputError(f"{where}: holds <video> {text.count('<video>')} times; a prompt has one video")
    return text if "<video>" in text else f"<video>\n{text}"


def build_annotations(
    clips: Iterable[Clip],
    matched: Matched,
    splits: Mapping[str, str],
    *,
    prompt_template: str,
) -> dict[str, list[dict]]:
    """Make the annotation records of each split, sorted by clip, one for each question about a clip.

    Args:
        clips: The clips to use; those without a record are left out.
        matched: The clips' records.
        splits: Clip path to its split.
        prompt_template: See `build_prompt`; the prompt of a clip about which the data set asks nothing itself.

    Raises:
        InputError: See `build_prompt`.
    """
    clips = sorted((clip for clip in clips if clip.path in matched.by_clip), key=lambda clip: clip.path)
    annotations = {name: [] for name in SPLITS}
    for clip in clips:
        prompt = build_prompt(prompt_template, clip.exercise)
        name = splits[clip.path]
        for question, answer in matched.by_clip[clip.path].turns:
            turns = [
                {"from": "human", "value": prompt if question is None else f"<video>\n{question}"},
                {"from": "gpt", "value": answer},
            ]
            annotations[name].append({"video": clip.path, "conversations": turns, "split": name})
    return annotations


def ground_truth(matched: Matched) -> list[dict]:
    """The records of the clips in use, as they stand in their file but for ``video_path``, which is the clip's."""
    return [{**record.raw, "video_path": path} for path, record in sorted(matched.by_clip.items())]


def summarise(
    clips: Iterable[Clip],
    matched: Matched,
    splits: Splits,
    annotations: Mapping[str, list[dict]],
    findings: Findings,
) -> dict:
    """Count what went where, and list what was passed over or guessed.

    Args:
        clips: The clips of the manifest.
        matched: Their records.
        splits: Their splits.
        annotations: The annotations.
        findings: Those of reading the manifest and the records.

    Returns:
        ``clips`` (of the manifest), ``joined_by_path`` (number), ``splits`` (clips in each), ``conversations`` (in
        each split), ``exercises`` (a row of clips in each split for each), ``split`` (see `Splits`), ``findings``:
        ``reason``, ``count`` and ``items`` (the first `LISTED`) each.
    """
    exercise = {clip.path: clip.exercise for clip in clips}
    table: dict[str, dict[str, int]] = {name: dict.fromkeys(SPLITS, 0) for name in sorted(set(exercise.values()))}
    for split, rows in annotations.items():
        for video in {row["video"] for row in rows}:
            table[exercise[video]][split] += 1
    return {
        "clips": len(exercise),
        "joined_by_path": matched.by_path,
        "splits": {split: len({row["video"] for row in rows}) for split, rows in annotations.items()},
        "conversations": {split: len(rows) for split, rows in annotations.items()},
        "exercises": table,
        "split": splits.summary(),
        "findings": [
            {"reason": reason, "count": len(items), "items": items[:LISTED]}
            for reason, items in [*findings.items(), *matched.findings.items()]
            if items
        ],
    }
