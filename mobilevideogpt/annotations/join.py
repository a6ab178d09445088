"""Match labels to clips. Standard library only."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mobilevideogpt.annotations.answers import are_free_text, split_label
from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.copies import source_clips
from mobilevideogpt.annotations.findings import Code, Findings, first_of
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import VIDEO_SUFFIXES, join_key

log = logging.getLogger(__name__)

_SUFFIX = re.compile(f"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})$", re.IGNORECASE)


@dataclass
class Matched:
    """Clips with their labels.

    Attributes:
        by_clip: Clip path (relative to the project) to its label.
        missing: Paths of the clips without a label.
        by_path: How many clips were matched by path.
    """

    by_clip: dict[str, Label] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    by_path: int = 0


def match_labels(clips: Iterable[Clip], labels: Iterable[Label], findings: Findings | None = None) -> Matched:
    """Match each clip to its label: by path, else by a unique name, else by the label of its recording.

    A label whose folder is that of other clips is never matched by name. An augmented clip (``0001_mirrored`` beside
    ``0001``) without a label of its own gets that of its recording.

    Raises:
        InputError: If a name fits several clips, or several labels of one clip differ.
    """
    findings = Findings() if findings is None else findings
    clips_of: dict[str, list[tuple[str, str]]] = defaultdict(list)  # name -> key and path of each clip of that name
    for clip in clips:
        key = _key(clip.path)
        clips_of[_name(key)].append((key, clip.path))
    labels_of: dict[str, list[tuple[str, Label]]] = defaultdict(list)  # name -> key and label of each
    for label in labels:
        key = _key(label.path)
        if (name := _name(key)) in clips_of:
            labels_of[name].append((key, label))
        else:
            findings.add(Code.LABEL_WITHOUT_CLIP, f"{label.path} ({label.origin})")
    folders = {key.rpartition("/")[0] for named in clips_of.values() for key, _ in named}
    matched = Matched()
    for name, keyed in labels_of.items():
        _match_one_name(clips_of[name], keyed, folders, matched, findings)
    paths = {path for named in clips_of.values() for _, path in named}
    _match_copies(paths, matched, findings)
    return matched


def _key(path: str) -> str:
    """The path without its suffix, in one Unicode form."""
    return _SUFFIX.sub("", join_key(path))


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _match_one_name(
    clips: list[tuple[str, str]],
    labels: list[tuple[str, Label]],
    folders: set[str],
    matched: Matched,
    findings: Findings,
) -> None:
    """Match the clips of one name to the labels of that name; each comes with its key."""
    rest, used = [], set()
    for clip_key, path in clips:
        exact = [label for key, label in labels if "/" in key and clip_key.endswith("/" + key)]
        if exact:
            matched.by_clip[path] = _only(exact, path, findings)
            matched.by_path += 1
            used.update(map(id, exact))
        else:
            rest.append(path)
    fits = [label for key, label in labels if id(label) not in used and not _in_folder_of_clips(key, folders)]
    if rest and fits:
        if len(clips) > 1:
            several = " and ".join(sorted(path for _, path in clips))
            raise InputError(f"{fits[0].origin}: {fits[0].path!r} fits {several}; write the exercise's folder in front")
        matched.by_clip[rest[0]] = _only(fits, rest[0], findings)
        findings.add(Code.MATCHED_BY_NAME, rest[0])
        used.update(map(id, fits))
    unused = (label for _, label in labels if id(label) not in used)
    findings.add(Code.LABEL_WITHOUT_CLIP, *(f"{label.path} ({label.origin})" for label in unused))


def _in_folder_of_clips(key: str, folders: set[str]) -> bool:
    folder = key.rpartition("/")[0]
    return bool(folder) and any(known.endswith("/" + folder) for known in folders)


def _only(labels: list[Label], path: str, findings: Findings) -> Label:
    """Return the first label of a clip; the others must be equal."""
    first = labels[0]
    for other in labels[1:]:
        differ = "are different labels" if (other.text, other.turns) != (first.text, first.turns) else None
        if differ is None and other.split != first.split:
            differ = f"have different splits, {first.split} and {other.split}"
        if differ:
            raise InputError(
                f"{path}: {first.origin} ({first.path!r}) and {other.origin} ({other.path!r}) {differ}; delete one"
            )
        findings.add(Code.DUPLICATE_LABEL, f"{other.path} ({other.origin})")
    return first


def _match_copies(paths: set[str], matched: Matched, findings: Findings) -> None:
    """Give augmented clips the label of their recording; note the clips that are left."""
    missing = sorted(paths - matched.by_clip.keys())
    sources = source_clips(paths) if missing else {}
    for path in missing:
        source = sources[path]
        if source in matched.by_clip:
            matched.by_clip[path] = matched.by_clip[source]
            findings.add(Code.LABEL_OF_RECORDING, path)
        else:
            matched.missing.append(path)


def join_labels(
    clips: Iterable[Clip], labels: Iterable[Label], source: str = "labels", findings: Findings | None = None
) -> Matched:
    """Match every clip to a label with an answer.

    With source ``labels``, every clip must have one. Feedbacks and questions cover a part of the clips (most clips of
    QEVD have no feedback): a clip without an answer is left out and listed.

    Raises:
        InputError: If a clip has no label (the message lists the first ten), or if no clip has an answer.
    """
    findings = Findings() if findings is None else findings
    clips = list(clips)
    matched = match_labels(clips, labels, findings)
    empty = {path: label.origin for path, label in matched.by_clip.items() if not label.turns}
    lacking = [f"{path} (no entry)" for path in matched.missing]
    lacking += [f"{path} ({origin} is empty)" for path, origin in empty.items()]
    if lacking and (source == "labels" or len(lacking) == len(clips)):
        raise _without_answer(lacking, len(clips), source, findings)
    findings.add(Code.WITHOUT_ANSWER, *lacking)
    for path in empty:
        del matched.by_clip[path]
    _check_exercises(clips, matched, findings)
    log.info("%d clips, %d matched by path", len(clips), matched.by_path)
    return matched


def _without_answer(lacking: list[str], n_clips: int, source: str, findings: Findings) -> InputError:
    answer, file = ("label", "label file") if source == "labels" else ("answer", f"file of annotations.source {source}")
    spare = findings.items(Code.LABEL_WITHOUT_CLIP)
    mistyped = f", and there is no clip for {', '.join(spare)}" if 0 < len(spare) <= 10 else ""
    return InputError(
        f"{len(lacking)} of {n_clips} clips have no {answer}: {first_of(lacking, 10)}{mistyped}; "
        f"add an entry for each to the {file}, or list the clip in dataset.exclude"
    )


def _check_exercises(clips: Iterable[Clip], matched: Matched, findings: Findings) -> None:
    """Collect labels without a description and the reverse, and labels of another exercise than the manifest's."""
    labelled = [(clip, label) for clip in clips if (label := matched.by_clip.get(clip.path)) and label.pairs]
    for clip, label in labelled:
        if not any(label.labels_descriptive):
            findings.add(Code.BARE_LABEL, clip.path)
            continue
        findings.add(Code.MISSING_DESCRIPTION, *(f"{clip.path} ({bare})" for bare, text in label.pairs if not text))
        if any(label.labels):
            unpaired = (text for bare, text in label.pairs if not bare)
            findings.add(Code.MISSING_LABEL, *(f"{clip.path} ({text})" for text in unpaired))
    named = [(clip, next(filter(None, label.labels)), label.labels) for clip, label in labelled if any(label.labels)]
    if are_free_text((first, clip.exercise) for clip, first, _ in named):
        return  # one notice says so
    for clip, first, labels in named:
        if not any(split_label(text, clip.exercise)[0] for text in labels):
            findings.add(Code.OTHER_EXERCISE, f"{clip.path} ({first})")


def ground_truth(matched: Matched) -> list[dict]:
    """Return the label file's entries of the clips in use; ``video_path`` becomes the clip's path."""
    return [{**label.raw, "video_path": path} for path, label in sorted(matched.by_clip.items())]
