"""Match labels to clips. Standard library only."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mobilevideogpt.annotations.answers import are_free_text, split_label
from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.copies import source_clips
from mobilevideogpt.annotations.findings import Code, Findings, first_of
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.annotations.spelling import Nearest, Spelling, folded_stem, spelling
from mobilevideogpt.errors import InputError
from mobilevideogpt.segments import Segment, split_segment, with_segment
from mobilevideogpt.wording import counted

log = logging.getLogger(__name__)

Rank = tuple[int, ...]  # how badly a label's path fits a clip's
LISTED = 10  # clips without a label, in the message
EXCLUDE = "dataset.exclude"


@dataclass
class Matched:
    """Clips with their labels.

    Attributes:
        by_clip: Clip path (relative to the project) to its label.
        missing: Paths of the clips without a label.
        unused: Labels without a clip.
        by_path: How many clips were matched by path.
    """

    by_clip: dict[str, Label] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[Label] = field(default_factory=list)
    by_path: int = 0


def match_labels(
    clips: Iterable[Clip], labels: Iterable[Label], findings: Findings | None = None, data_root: str = "dataset"
) -> Matched:
    """Match each clip to its label.

    The path decides, then the name with its suffix, where it is that of one clip. A label that names another suffix or
    none fits the only clip of that path or name; another suffix is listed as a guess. Names are compared folded
    (`spelling.fold`), and one that is written the same goes first. A label whose folder is that of other clips is never
    matched by name. A segment is matched to the labels of the same start and end. An augmented clip (``0001_mirrored``
    beside ``0001``) without a label of its own gets that of its recording.

    Args:
        clips: The clips.
        labels: The labels.
        findings: Collects guesses, and labels that are not used.
        data_root: The data set's folder.

    Raises:
        InputError: If a name with its suffix fits several clips, or several labels of one clip differ.
    """
    findings = Findings() if findings is None else findings
    by_segment: dict[Segment | None, dict[str, Clip]] = defaultdict(dict)  # the clips of equal segments, by their file
    for clip in clips:
        file, segment = split_segment(clip.path)
        by_segment[segment][file] = clip
    if not by_segment.keys() - {None}:  # a label file may have starts and ends that no clip needs
        return _match_files(by_segment[None].values(), labels, findings, data_root)
    labels_of: dict[Segment | None, list[Label]] = defaultdict(list)
    for label in labels:
        labels_of[label.segment].append(label)
    matched = Matched()
    for segment, clip_of in by_segment.items():
        files = [Clip(file, clip.exercise) for file, clip in clip_of.items()]
        of_files = _match_files(files, labels_of.pop(segment, ()), findings, data_root)
        matched.by_clip |= {with_segment(file, segment): label for file, label in of_files.by_clip.items()}
        matched.missing += [with_segment(file, segment) for file in of_files.missing]
        matched.unused += of_files.unused
        matched.by_path += of_files.by_path
    unused = [label for of_segment in labels_of.values() for label in of_segment]
    findings.add(Code.LABEL_WITHOUT_CLIP, *map(_named, unused))
    matched.unused += unused
    matched.missing.sort()
    return matched


def _match_files(clips: Iterable[Clip], labels: Iterable[Label], findings: Findings, data_root: str) -> Matched:
    """Match clips that are whole files, or equal parts of them, to labels of such."""
    below = len(data_root.rstrip("/")) + 1
    clips_of: dict[str, list[str]] = defaultdict(list)  # folded stem -> paths of the clips
    for clip in clips:
        clips_of[folded_stem(clip.path)].append(clip.path)
    matched = Matched()
    labels_of: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        if (stem := folded_stem(label.path)) in clips_of:
            labels_of[stem].append(label)
        else:
            matched.unused.append(label)
    paths = [path for named in clips_of.values() for path in named]
    folders = _Folders(paths, below)
    for stem, labelled in labels_of.items():
        named = clips_of[stem]
        if len(named) == len(labelled) == 1 and _is_plain(named[0], labelled[0]):
            matched.by_clip[named[0]] = labelled[0]  # a shortcut: of 300,000 labels, nearly all
            if "/" in labelled[0].path:
                matched.by_path += 1
            else:
                findings.add(Code.MATCHED_BY_NAME, named[0])
        else:
            _OneName(named, labelled, below, folders, matched, findings).match()
    findings.add(Code.LABEL_WITHOUT_CLIP, *map(_named, matched.unused))
    _match_copies(set(paths), matched, findings)
    return matched


def _named(label: Label) -> str:
    return f"{with_segment(label.path, label.segment)} ({label.origin})"


def _is_plain(path: str, label: Label) -> bool:
    """Whether a label without a folder names the clip, or one with a folder ends the clip's path."""
    return path.endswith(f"/{label.path}")


class _Folders:
    """The folders of all clips, folded."""

    def __init__(self, paths: Iterable[str], below: int):
        folders = {spelling(f"{folder[below:]}/x").folders for folder in {path.rpartition("/")[0] for path in paths}}
        self._whole = folders - {()}
        self._ends = {one[i:] for one in self._whole for i in range(len(one))}

    def has(self, folders: tuple[str, ...]) -> bool:
        """Whether the folders of a label are those of clips: the end of their path, or the whole and more."""
        return folders in self._ends or any(folders[i:] in self._whole for i in range(len(folders)))


class _OneName:
    """The clips and the labels of one folded name without suffix."""

    def __init__(
        self,
        paths: list[str],
        labels: list[Label],
        below: int,
        folders: _Folders,
        matched: Matched,
        findings: Findings,
    ):
        self.root = paths[0][:below]
        self.clips = {path: spelling(path[below:]) for path in paths}
        self.open = set(paths)  # clips without a label
        self.labels = {i: (spelling(label.path), label) for i, label in enumerate(labels)}  # that no clip has yet
        self.folders, self.matched, self.findings = folders, matched, findings
        self.in_folder, self.of_name = defaultdict(list), defaultdict(list)
        for path, clip in self.clips.items():
            self.in_folder[clip.folders[-1:]].append(path)
            self.of_name[clip.name].append(path)
            self.of_name[clip.suffix, "folded"].append(path)

    def match(self) -> None:
        """Match by path, then by name with its suffix, then without; list the labels that are left."""
        self._assign({i: self._of_path(where, guess=False) for i, (where, _) in self.labels.items()})
        if self.open and self.labels:
            self._assign({i: self._of_name(where) for i, (where, _) in self.labels.items()})
        if self.open and self.labels:
            self._assign({i: self._guess(where) for i, (where, _) in self.labels.items()}, guess=True)
        self.matched.unused += [label for _, label in self.labels.values()]

    def _of_path(self, where: Spelling, guess: bool) -> tuple[Rank, list[str]]:
        """Return the clips whose path fits that of a label best, and how badly."""
        best: tuple[Rank, list[str]] = (), []
        if not where.folders or (whole := f"{self.root}{where.path}") in self.clips:
            return ((), [whole]) if where.folders else best
        for path in self.in_folder[where.folders[-1:]]:
            clip = self.clips[path]
            same = _common_end(clip.folders, where.folders)
            if same not in (len(clip.folders), len(where.folders)) or (clip.suffix != where.suffix and not guess):
                continue
            rank = (-same, len(clip.folders) + len(where.folders) - 2 * same, not _ends_alike(clip.path, where.path))
            if not best[1] or rank < best[0]:
                best = rank, [path]
            elif rank == best[0]:
                best[1].append(path)
        return best

    def _of_name(self, where: Spelling) -> tuple[Rank, list[str]]:
        if self.folders.has(where.folders):
            return (), []
        if exact := self.of_name.get(where.name):
            return (0,), exact
        return (1,), self.of_name.get((where.suffix, "folded"), [])

    def _guess(self, where: Spelling) -> tuple[Rank, list[str]]:
        rank, fits = self._of_path(where, guess=True)
        if not fits and not self.folders.has(where.folders):
            return (1,), list(self.clips) if len(self.clips) == 1 else []
        return (0, *rank), fits

    def _assign(self, fits: Mapping[int, tuple[Rank, list[str]]], guess: bool = False) -> None:
        """Give labels to the clips that they fit; fits of several labels to one clip must be equally good and equal."""
        by_clip: dict[str, list[tuple[Rank, int]]] = defaultdict(list)
        for i, (rank, paths) in fits.items():
            if len(paths) == 1 and paths[0] in self.open:
                by_clip[paths[0]].append((rank, i))
        for path, ranked in by_clip.items():
            first = min(rank for rank, _ in ranked)
            chosen = [i for rank, i in ranked if rank == first]
            labels = [self.labels[i][1] for i in chosen]
            if guess and any(_difference(labels[0], other) for other in labels):
                continue
            self.matched.by_clip[path] = _only(labels, path, self.findings)
            self._note(path, self.labels[chosen[0]][0])
            self.open.discard(path)
            for i in chosen:
                del self.labels[i]
        for i, (_, paths) in fits.items():
            if not guess and len(paths) > 1 and not self.open.isdisjoint(paths):
                label, several = self.labels[i][1], first_of(sorted(paths), LISTED, " and ")
                raise InputError(
                    f"{label.origin}: {label.path!r} fits {several}; write the exercise's folder in front, or the "
                    f"whole path below {self.root}"
                )

    def _note(self, path: str, where: Spelling) -> None:
        """Count how a clip was matched."""
        clip = self.clips[path]
        if _common_end(clip.folders, where.folders):
            self.matched.by_path += 1
            alike = _ends_alike(clip.path, where.path)
        else:
            self.findings.add(Code.MATCHED_BY_NAME, path)
            alike = clip.name == where.name
        if clip.suffix != where.suffix:
            if where.suffix:
                self.findings.add(Code.OTHER_SUFFIX, f"{path} ({where.path})")
        elif not alike:
            self.findings.add(Code.OTHER_SPELLING, f"{path} ({where.path})")


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    """Return how many of the last parts are equal."""
    return next(
        (i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )


def _ends_alike(a: str, b: str) -> bool:
    """Whether the longer path ends with the other."""
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")


def _only(labels: list[Label], path: str, findings: Findings) -> Label:
    """Return the first label of a clip; the others must be equal."""
    first = labels[0]
    for other in labels[1:]:
        if differ := _difference(first, other):
            raise InputError(
                f"{path}: {first.origin} ({first.path!r}) and {other.origin} ({other.path!r}) {differ}; delete one"
            )
        findings.add(Code.DUPLICATE_LABEL, _named(other))
    return first


def _difference(a: Label, b: Label) -> str | None:
    if (a.text, a.turns) != (b.text, b.turns):
        return "are different labels"
    return f"have different splits, {a.split} and {b.split}" if a.split != b.split else None


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
    clips: Iterable[Clip],
    labels: Iterable[Label],
    source: str = "labels",
    findings: Findings | None = None,
    *,
    data_root: str = "dataset",
    complete: bool = True,
) -> Matched:
    """Match every clip to a label with an answer.

    With source ``labels``, every clip must have one. Feedbacks and questions cover a part of the clips (most clips of
    QEVD have no feedback): a clip without an answer is left out and listed.

    Args:
        clips: The clips.
        labels: The labels.
        source: Kind of the label file, see `read_labels`.
        findings: Collects guesses, and clips and labels that are not used.
        data_root: The data set's folder.
        complete: With False, a clip without an answer is left out whatever the source.

    Raises:
        InputError: If a clip has no label (the message lists the first ten), or if no clip has an answer.
    """
    findings = Findings() if findings is None else findings
    clips = list(clips)
    matched = match_labels(clips, labels, findings, data_root)
    empty = {path: f"{label.origin} is empty" for path, label in matched.by_clip.items() if not label.turns}
    reasons = dict.fromkeys(matched.missing, "no entry") | empty
    lacking = [f"{path} ({reason})" for path, reason in reasons.items()]
    if lacking and ((complete and source == "labels") or len(lacking) == len(clips)):
        answer, file = "answer", f"file of annotations.source {source}"
        if source == "labels":
            answer, file = "label", "label file"
        number = f"{len(lacking)} of {counted(len(clips), 'clip{s} {has|have}')} no {answer}"
        if not matched.missing:  # a template that is not filled in yet
            lacking.sort()
            raise InputError(
                f"{number} yet: {first_of(lacking, LISTED)}; write one for each, or list the clip in {EXCLUDE}"
            )
        raise InputError(
            f"{number}: {first_of(lacking, LISTED)}{_mistyped(matched.missing, matched.unused)}; "
            f"add an entry for each to the {file}, or list the clip in {EXCLUDE}"
        )
    findings.add(Code.WITHOUT_ANSWER, *lacking)
    for path in empty:
        del matched.by_clip[path]
    _check_exercises(clips, matched, findings)
    log.info("%d clips, %d matched by path", len(clips), matched.by_path)
    return matched


def _mistyped(missing: list[str], unused: list[Label]) -> str:
    """Name the labels without a clip, or of many those whose name is most like a clip's without a label."""
    if 0 < len(unused) <= LISTED:
        return f", and there is no clip for {', '.join(map(_named, unused))}"
    nearest = Nearest(label.path for label in unused)
    alike = [f"{like!r} for {path}" for path in missing[:LISTED] if (like := nearest.to(path))]
    return f"; of {len(unused)} labels without a clip the most similar is {', '.join(alike)}" if alike else ""


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
