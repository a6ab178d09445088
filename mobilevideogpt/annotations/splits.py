"""Split the clips into train, val and test: whole groups, by exercise, the same for a seed. Standard library only.

A recording is a clip with the copies made of it. A group is the recordings of one person where the person is known,
else one recording (`mobilevideogpt.annotations.groups`). A group that is settled in several splits keeps one name.

scikit-learn's ``StratifiedGroupKFold`` does not do. It stratifies by one label, not by exercise and label. Its folds
are equal; they are not fractions with at least one group of each exercise in each split. It knows neither pinned clips
nor the data set's own split. One added clip moves most of the others. And this package keeps to the standard library.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mobilevideogpt.annotations.clips import SPLITS, Clip
from mobilevideogpt.annotations.dealing import Group, Shares, deal
from mobilevideogpt.annotations.findings import Code, Findings, first_of
from mobilevideogpt.annotations.groups import RECORDING, groups_of, recordings_of, why_together
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import join_key
from mobilevideogpt.wording import counted

# Names of the splits in label files.
_OWN_NAMES = {name: "val" for name in ("val", "valid", "validation", "dev")}
_OWN_NAMES |= {"train": "train", "training": "train", "test": "test", "testing": "test"}


@dataclass
class Splits:
    """Which clip is in which split, and why.

    Attributes:
        by_clip: Clip path to ``train``, ``val`` or ``test``.
        source: ``labels`` where the label file's own split is used, else ``fractions``.
        groups: Number of groups.
        group_of: Clip path to the name of its group, which is the shortest path of its clips.
        leaks: Recordings or persons that are in several splits because they were settled so, one sentence each.
    """

    by_clip: dict[str, str] = field(default_factory=dict)
    source: str = "fractions"
    groups: int = 0
    group_of: dict[str, str] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)


def assign_splits(
    clips: Iterable[Clip],
    labels: Mapping[str, Label],
    fractions: Mapping[str, float],
    seed: int,
    *,
    source: str = "auto",
    workers: Mapping[str, str] | None = None,
    pins: Mapping[str, str] | None = None,
    recording_pattern: str = RECORDING,
    same: Iterable[Collection[str]] = (),
    findings: Findings | None = None,
) -> Splits:
    """Give each clip its split.

    A group stays together. Each exercise has its share of recordings in each split, at least one if it has as many
    groups as there are splits and none of them is needed elsewhere. Among single recordings, train gets each label of
    the exercise as far as its share allows. Val and test are spread over the labels, and over the faults (after
    ``" - "``) of all exercises.

    Settled splits come first: ``pins``, then the label file's own split. Other clips of a settled group follow it.

    Args:
        clips: The clips; those without a label are left out.
        labels: Clip path to its label, with the data set's own split.
        fractions: Of ``train``, ``val`` and ``test``; they add up to 1.
        seed: Chooses among equal choices. Neither the clips' order nor PYTHONHASHSEED matters.
        source: ``labels`` uses the label file's own split, and carves validation out of train if it has none;
            ``fractions`` ignores it; ``auto`` uses it if it has both train and test, unless all clips are to be trained
            on.
        workers: Clip path to the person seen in it, where the person is known.
        pins: Clip path to the split that the user fixed; may name clips that no longer exist.
        recording_pattern: See `recordings_of`.
        same: Collections of clips that are one recording whatever their names.
        findings: Collects what the user should know.

    Raises:
        InputError: If the fractions are invalid, a split that was asked for stays empty, or the label file's own split
            is asked for and cannot be used.
    """
    findings = Findings() if findings is None else findings
    _check(fractions)
    used = sorted((clip for clip in clips if clip.path in labels), key=lambda clip: clip.path)
    exercises = {clip.path: clip.exercise for clip in used}
    spelled = {join_key(path): path for path in exercises}
    pins = {spelled.get(path, path): split for path, split in (pins or {}).items()}
    named = {path: split for path in exercises if (split := labels[path].split)}
    own = _own_split(named, len(exercises), fractions, source, findings)

    paths, workers = exercises.keys() | pins.keys(), workers or {}
    recordings = recordings_of(paths, recording_pattern, same)
    groups = groups_of(recordings.by_clip, workers)
    result, fixed, free = _settle(groups, exercises, recordings.by_clip, pins, own)
    largest = max(([path for path in group if path in exercises] for group in groups), key=len, default=[])
    names = {path: name for path, name in recordings.names.items() if path in exercises}
    why = why_together(largest, names, workers, recording_pattern) if len(largest) > 1 else ""
    left = _fractions_beside(own, fractions) if own else fractions
    texts = {path: label.text for path, label in labels.items()}
    dealt, shares = deal(free, fixed, left, texts, seed)
    for group in free:
        result.by_clip |= dict.fromkeys(group.clips, dealt[group.name])

    filled = set(result.by_clip.values())
    for split in shares.asked:
        if split not in filled:
            raise InputError(
                f"annotations.split.{split} is {fractions[split]:g}, but {counted(len(exercises), 'clip{s}')} in "
                f"{counted(len(set(exercises.values())), 'exercise{s}')} leave none for it; "
                + (f"{len(largest)} of the clips are one group: {why}; else " if why else "")
                + f"add clips (three recordings an exercise suffice), {'change splits.csv, ' * bool(pins)}"
                f"or set annotations.split.{split} to 0"
            )
    if len(shares.asked) > 1 and len(largest) > max(2, len(exercises) / 2):
        findings.notice(Code.LARGE_GROUP, count=len(largest), clips=len(exercises), why=why)
    _report_several_exercises(names, exercises, recording_pattern, findings)
    _report(result, shares, pins, exercises, findings)
    return result


def _report_several_exercises(
    names: Mapping[str, str], exercises: Mapping[str, str], pattern: str, findings: Findings
) -> None:
    """Say which recordings' names occur in several exercises: a recording shows one, a date or a person several."""
    by_name: dict[str, dict[str, str]] = {}  # name -> exercise -> first clip
    for path, name in sorted(names.items()):
        by_name.setdefault(name, {}).setdefault(exercises[path], path)
    several = {name: clips for name, clips in by_name.items() if len(clips) > 1}
    if several:
        name, clips = next(iter(several.items()))
        example = f"{name!r}: {first_of(list(clips.values()), 3)}"
        findings.notice(Code.SEVERAL_EXERCISES, count=len(several), example=example, pattern=pattern)


def _check(fractions: Mapping[str, float]) -> None:
    values = [fractions[split] for split in SPLITS]
    if min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=1e-6) or not fractions["train"] > 0:
        shown = ", ".join(f"{split}: {fractions[split]:g}" for split in SPLITS)
        raise InputError(
            f"annotations.split {{{shown}}}: the fractions must not be negative and have the sum 1, with train above 0"
        )


def _own_split(
    named: Mapping[str, str], n_clips: int, fractions: Mapping[str, float], source: str, findings: Findings
) -> dict[str, str]:
    """Decide whether the label file's own split is used; return it if so, else nothing."""
    counted = Counter(named.values())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "none"
    meant = {_OWN_NAMES.get(name) for name in counted}
    complete = {"train", "test"} <= meant
    if source == "fractions" and counted:
        findings.notice(Code.OWN_SPLIT_NOT_ASKED_FOR, counts=counts)
    elif source == "auto" and complete and fractions["train"] == 1:
        findings.notice(Code.OWN_SPLIT_ALL_TRAIN, counts=counts)
    elif source == "auto" and not complete and counted:
        code = Code.OWN_SPLIT_ONLY_TRAIN if meant == {"train"} else Code.OWN_SPLIT_INCOMPLETE
        findings.notice(code, counts=counts)
    if source == "fractions" or (source == "auto" and (not complete or fractions["train"] == 1)):
        return {}
    if not complete:
        raise InputError(
            f"annotations.split_source is labels, but the split of {n_clips} clips in the label file is: {counts}; "
            "name some of them train and some test, or set annotations.split_source to auto or fractions"
        )
    if unknown := sorted(counted.keys() - _OWN_NAMES.keys()):
        raise InputError(
            f"the label file's own split contains {', '.join(map(repr, unknown))} beside train and test; correct it to "
            "train, val or test, or set annotations.split_source to fractions"
        )
    findings.notice(Code.OWN_SPLIT_USED, counts=counts)
    if without := n_clips - len(named):
        findings.notice(Code.WITHOUT_OWN_SPLIT, count=without)
    return {path: _OWN_NAMES[name] for path, name in named.items()}


def _fractions_beside(own: Mapping[str, str], fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the fractions of the clips that the label file's own split leaves: train, and val if it has none."""
    carve = "val" not in own.values()
    kept = fractions["train"] + fractions["val"] * carve
    return {"train": fractions["train"] / kept, "val": fractions["val"] * carve / kept, "test": 0}


def _settle(
    groups: Iterable[list[str]],
    exercises: Mapping[str, str],
    recordings: Mapping[str, str],
    pins: Mapping[str, str],
    own: Mapping[str, str],
) -> tuple[Splits, dict[str, list[Group]], list[Group]]:
    """Settle the groups that pins or the label file's own split reach.

    Returns:
        The splits so far; the settled groups of each split, where a group in several splits is one in each; the groups
        that are still free.
    """
    result = Splits(source="labels" if own else "fractions")
    fixed: dict[str, list[Group]] = {split: [] for split in SPLITS}
    free = []
    for members in groups:
        settled = _settled_splits(members, pins, own)
        parts = sorted(set(settled.values()))
        if len(parts) > 1:
            examples = (next(path for path in members if settled[path] == split) for split in parts)
            result.leaks.append(" and ".join(f"{path} is {split}" for path, split in zip(examples, parts, strict=True)))
        present = [path for path in members if path in exercises]  # pins may name clips that no longer exist
        if present:
            result.group_of |= dict.fromkeys(present, _name(present))
        result.groups += bool(present)
        for split in parts:
            if together := [path for path in present if settled[path] == split]:
                fixed[split].append(_group(together, exercises, recordings))
        if present and not parts:
            free.append(_group(present, exercises, recordings))
        result.by_clip |= {path: settled[path] for path in present if path in settled}
    return result, fixed, free


def _settled_splits(members: list[str], pins: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the split of each clip of a group of which at least one clip is settled, else nothing.

    A clip without a pin follows its own split if that is val or test, then the group's commonest pin, then its own
    split, then the commonest split of the group.
    """
    settled = {path: pins[path] for path in members if path in pins}
    pinned = _commonest(settled.values())
    settled |= {path: own[path] for path in members if path not in pins and own.get(path) in ("val", "test")}
    if common := _commonest(settled.values()):
        settled |= {path: pinned or own.get(path) or common for path in members if path not in settled}
    return settled


def _commonest(splits: Iterable[str]) -> str | None:
    counted = Counter(splits)
    return max(SPLITS, key=lambda split: counted[split]) if counted else None


def _group(clips: list[str], exercises: Mapping[str, str], recordings: Mapping[str, str]) -> Group:
    each = {(exercises[path], recordings[path]) for path in clips}
    return Group(_name(clips), clips, Counter(exercise for exercise, _ in sorted(each)))


def _name(clips: Iterable[str]) -> str:
    return min(clips, key=lambda path: (len(path), path))


def _report(
    result: Splits, shares: Shares, pins: Mapping[str, str], exercises: Mapping[str, str], findings: Findings
) -> None:
    """Collect what the user should know."""
    if pins:
        gone = sorted(path for path in pins if path not in exercises)
        findings.notice(Code.PINNED, count=len(pins) - len(gone), clips=len(exercises))
        if gone:
            findings.notice(Code.PINS_WITHOUT_CLIP, count=len(gone), examples=first_of(gone, 3))
    wanted = shares.asked + ["test"] * (result.source == "labels")
    for exercise in sorted(shares.groups):
        lacking = [split for split in wanted if not shares.groups[exercise][split]]
        if lacking and shares.all_groups[exercise] >= 3:
            groups, splits = shares.all_groups[exercise], " and ".join(lacking)
            findings.notice(Code.EXERCISE_LACKS_SPLIT, exercise=exercise, groups=groups, splits=splits)
    findings.add(Code.LEAK, *result.leaks)
