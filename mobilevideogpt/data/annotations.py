"""Annotation files: a prompt and an answer a clip, in the conversation layout of LLaVA. Standard library only."""

import hashlib
import json
import logging
import os
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobilevideogpt.data.labels import LabelRecord, join_labels
from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.data.splits import SPLITS, assign_splits
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, read_json, write_json, write_text

log = logging.getLogger(__name__)


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
    records: Iterable[LabelRecord],
    *,
    prompt_template: str,
    split: Mapping[str, float],
    seed: int,
) -> dict[str, list[dict]]:
    """Make the annotation records of each split, sorted by clip.

    Args:
        clips: The clips to use, all of them.
        records: Label records; those without a clip are counted in the log.
        prompt_template: See `build_prompt`.
        split: Fractions ``train``, ``val`` and ``test``.
        seed: Seed of the split.

    Raises:
        InputError: See `join_labels`, `assign_splits` and `build_prompt`.
    """
    clips = sorted(clips, key=lambda clip: clip.path)
    matched = join_labels(clips, records).by_clip
    if own := Counter(record.split for record in matched.values() if record.split):
        log.info("the label file's own split (%s) is not used; the fractions of `split` are", dict(own))
    splits = assign_splits(clips, {path: record.text for path, record in matched.items()}, split, seed)
    annotations = {name: [] for name in SPLITS}
    for clip in clips:
        turns = [
            {"from": "human", "value": build_prompt(prompt_template, clip.exercise)},
            {"from": "gpt", "value": matched[clip.path].answer},
        ]
        name = splits[clip.path]
        annotations[name].append({"video": clip.path, "conversations": turns, "split": name})
    return annotations


def summarise(clips: Iterable[Clip], records: Iterable[LabelRecord], annotations: Mapping[str, list[dict]]) -> dict:
    """Count what went where: ``splits``, ``exercises`` (a row of splits each), ``labels`` (how they were joined)."""
    clips = list(clips)
    exercise = {clip.path: clip.exercise for clip in clips}
    table: dict[str, dict[str, int]] = {name: dict.fromkeys(SPLITS, 0) for name in sorted(set(exercise.values()))}
    for split, rows in annotations.items():
        for row in rows:
            table[exercise[row["video"]]][split] += 1
    return {
        "splits": {split: len(rows) for split, rows in annotations.items()},
        "exercises": table,
        "labels": dict(sorted(join_labels(clips, records).counts.items())),
    }


def publish(annotations: Mapping[str, list[dict]], data_root: str | Path, published: str | Path) -> list[str]:
    """Copy the annotations to ``<data_root>/qved_{train,val,test}.json``, where a person looks for them.

    A file there that this function did not write is the user's: it is renamed to ``….set-aside-1`` (2, 3, ...), never
    overwritten.

    Args:
        annotations: Records of each split.
        data_root: The data set's folder.
        published: JSON file that remembers the digests of what was written.

    Returns:
        The new names of files that were set aside; a warning is logged for each.
    """
    ours = read_json(published, remedy="delete it") if os.path.exists(published) else {}
    aside = []
    for split, records in annotations.items():
        path = Path(data_root) / f"qved_{split}.json"
        text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = ours.get(path.name, [])
        found = file_digest(path) if path.is_file() else None
        if found == digest:
            continue
        if os.path.lexists(path) and found not in known:
            number = 1
            while os.path.lexists(name := f"{path}.set-aside-{number}"):
                number += 1
            os.rename(path, name)
            log.warning("%s was not written by this workflow; it is set aside as %s and not used", path, name)
            aside.append(name)
        ours[path.name] = [*known[-1:], digest]  # recorded first: a kill in between must not disown the old file
        write_json(ours, published)
        write_text(text, path)
    return aside
