"""Train, validation and test: stratified by exercise, whole groups, the same for a seed. Standard library only.

A recording is a clip with the copies made of it; a group is the recordings of one person where it is known who is seen,
else one recording (`mobilevideogpt.annotations.groups`).
"""

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mobilevideogpt.annotations.groups import RECORDING, groups_of, recordings_of
from mobilevideogpt.annotations.labels import LabelRecord
from mobilevideogpt.annotations.manifest import Clip
from mobilevideogpt.annotations.pins import SPLITS
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import join_key

log = logging.getLogger(__name__)

# How a label file may call its splits.
_OWN = {name: "val" for name in ("val", "valid", "validation", "dev")}
_OWN |= {"train": "train", "training": "train", "test": "test", "testing": "test"}


@dataclass
class Splits:
    """Which clip is in which split, and why.

    Attributes:
        by_clip: Clip path to ``train``, ``val`` or ``test``.
        source: ``labels`` where the label file's own split was obeyed, else ``fractions``.
        groups: How many groups there are.
        notices: What a user should know, in sentences.
        leaks: Recordings or persons that are in several splits because it was settled so: clips, and where they are.
    """

    by_clip: dict[str, str] = field(default_factory=dict)
    source: str = "fractions"
    groups: int = 0
    notices: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def notice(self, text: str, level: int = logging.INFO) -> None:
        """Note and log what a user should know."""
        self.notices.append(text)
        log.log(level, "%s", text)

    def summary(self) -> dict:
        """What the reports show of it."""
        return {name: getattr(self, name) for name in ("source", "groups", "notices", "leaks")}


@dataclass
class _Group:
    """Clips that stay together, named after the one of the shortest path, and how many recordings they are."""

    name: str
    clips: list[str]
    recordings: Counter  # exercise -> number; a copy does not count


def assign_splits(
    clips: Iterable[Clip],
    records: Mapping[str, LabelRecord],
    fractions: Mapping[str, float],
    seed: int,
    *,
    source: str = "auto",
    workers: Mapping[str, str] | None = None,
    pins: Mapping[str, str] | None = None,
    recording_pattern: str = RECORDING,
) -> Splits:
    """Give each clip its split.

    A group stays together. Each exercise has its share of recordings in each split, at least one where it has as many
    groups as there are splits and none of them is needed elsewhere. Among single recordings, train holds each label of
    the exercise where its share allows; val and test are spread over the labels, and over the faults (after ``" - "``)
    of all exercises.

    What is settled comes first: ``pins``, then the label file's own split. Other clips of a settled group follow it.
    What a user should know is logged, too.

    Args:
        clips: The clips; those without a record are left out.
        records: Clip path to what the data set says of it: what it shows, and its own split.
        fractions: ``train``, ``val`` and ``test``, of sum 1.
        seed: Chooses among equal choices. Neither the clips' order nor PYTHONHASHSEED matters.
        source: ``labels`` obeys the label file's own split and carves validation out of train, if there is none in it;
            ``fractions`` does not; ``auto`` obeys it where it holds both train and test, unless all clips are asked to
            be trained on.
        workers: Clip path to the person seen in it, where that is known.
        pins: Clip path to the split that the user settled; may speak of clips that are no longer there.
        recording_pattern: See `recordings_of`.

    Raises:
        InputError: If the fractions are none, a split that was asked for stays empty, or the label file's
            own split is asked for and cannot be obeyed.
    """
    _check(fractions)
    clips = sorted((clip for clip in clips if clip.path in records), key=lambda clip: clip.path)
    exercises = {clip.path: clip.exercise for clip in clips}
    spelled = {join_key(path): path for path in exercises}
    pins = {spelled.get(path, path): split for path, split in (pins or {}).items()}
    result = Splits()
    labels = {path: record.text for path, record in records.items()}
    said = {path: record.split for path in exercises if (record := records[path]).split}
    own = _own_split(said, len(exercises), fractions, source, result)
    if result.source == "labels":
        carve = "val" not in own.values()
        kept = fractions["train"] + fractions["val"] * carve
        fractions = {"train": fractions["train"] / kept, "val": fractions["val"] * carve / kept, "test": 0}

    recordings = recordings_of(exercises.keys() | pins.keys(), recording_pattern)
    there, free = {split: [] for split in SPLITS}, []  # groups that are settled, a parted one in several; the others
    for members in groups_of(recordings, workers or {}):
        settled = _settle(members, pins, own)
        parts = sorted(set(settled.values()))
        if len(parts) > 1:
            examples = (next(path for path in members if settled[path] == split) for split in parts)
            shown = " and ".join(f"{path} is {split}" for path, split in zip(examples, parts, strict=True))
            result.leaks.append(shown)
        result.groups += any(path in exercises for path in members)
        for split in parts or [None]:
            present = [path for path in members if path in exercises and settled.get(path) == split]
            if present:
                (free if split is None else there[split]).append(_group(present, exercises, recordings))
        result.by_clip |= {path: split for path, split in settled.items() if path in exercises}

    table = _Table(fractions, there, free)
    seen: Counter = Counter()  # (split, fault)
    for split, groups in there.items():
        seen.update((split, _fault(labels.get(group.name, ""))) for group in groups)
    dealt = _deal_large([group for group in free if group.recordings.total() > 1], table, seed)
    singles = defaultdict(list)
    for group in free:
        if group.recordings.total() == 1:
            singles[next(iter(group.recordings))].append(group)
    owed = dict.fromkeys(SPLITS, 0.0)  # what rounding withheld from each split in the exercises before
    for exercise, groups in sorted(singles.items()):
        sizes = _sizes(len(groups), exercise, table, owed)
        shown = {group.name: labels.get(group.name, "") for group in groups}
        splits = _deal(shown, sizes, seed, seen)
        for group in groups:
            dealt[group.name] = splits[group.name]
            table.add(group, splits[group.name])
    _cover(free, dealt, table, seed)
    for group in free:
        result.by_clip |= dict.fromkeys(group.clips, dealt[group.name])

    for split in SPLITS:
        if fractions[split] > 0 and split not in result.by_clip.values():
            raise InputError(
                f"annotations.split.{split} is {fractions[split]:g}, but {len(exercises)} clips in "
                f"{len(set(exercises.values()))} exercises leave none for it; add clips (three an exercise suffice), "
                f"{'change splits.csv, ' * bool(pins)}or set annotations.split.{split} to 0"
            )
    _report(result, table, pins, exercises)
    return result


def _check(fractions: Mapping[str, float]) -> None:
    values = [fractions[split] for split in SPLITS]
    if min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=1e-6) or not fractions["train"] > 0:
        shown = ", ".join(f"{split}: {fractions[split]:g}" for split in SPLITS)
        raise InputError(
            f"annotations.split {{{shown}}}: the fractions must not be negative, train above 0, their sum 1"
        )


def _own_split(
    own: Mapping[str, str], n_clips: int, fractions: Mapping[str, float], source: str, result: Splits
) -> dict[str, str]:
    """Decide whether the label file's own split is obeyed; return it if so, else nothing."""
    said = Counter(own.values())
    unknown = sorted(said.keys() - _OWN.keys())
    counted = ", ".join(f"{name} {count}" for name, count in sorted(said.items())) or "none"
    both = {"train", "test"} <= {_OWN.get(name) for name in said}
    if source == "fractions" or (source == "auto" and (not both or fractions["train"] == 1)):
        if source == "auto" and both:
            result.notice(f"annotations.split.train is 1, so the label file's own split ({counted}) is not used")
        elif said:
            asked = source == "fractions"
            why = "" if asked else ", since it does not hold both train and test"
            result.notice(
                f"the label file's own split ({counted}) is not used{why}; the clips are divided by annotations.split",
                logging.INFO if asked else logging.WARNING,
            )
        return {}
    if not both:
        raise InputError(
            f"annotations.split_source is labels, but the label file gives {n_clips} clips: {counted}; it "
            "must call some train and some test; set annotations.split_source to auto or fractions"
        )
    if unknown:
        raise InputError(
            f"the label file's own split holds {', '.join(map(repr, unknown))} beside train and test; correct it to "
            "train, val or test, or set annotations.split_source to fractions"
        )
    result.source = "labels"
    result.notice(f"the label file's own split is obeyed ({counted})")
    if without := n_clips - len(own):
        result.notice(f"{without} clips that the label file gives no split are taken for training or validation")
    return {path: _OWN[name] for path, name in own.items()}


def _settle(members: list[str], pins: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The split of each clip of a group in which one or more are settled; else nothing."""
    settled = {path: pins[path] for path in members if path in pins}
    leader = _commonest(settled.values())
    settled |= {path: own[path] for path in members if path not in pins and own.get(path) in ("val", "test")}
    if settled:
        common = _commonest(settled.values())
        settled |= {path: leader or own.get(path) or common for path in members if path not in settled}
    return settled


def _commonest(splits: Iterable[str]) -> str | None:
    counted = Counter(splits)
    return max(SPLITS, key=lambda split: counted[split]) if counted else None


def _group(clips: list[str], exercises: Mapping[str, str], recordings: Mapping[str, str]) -> _Group:
    each = {(exercises[path], recordings[path]) for path in clips}
    name = min(clips, key=lambda path: (len(path), path))
    return _Group(name, clips, Counter(exercise for exercise, _ in sorted(each)))


def _order(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _fault(label: str) -> str:
    return label.partition(" - ")[2] or label


class _Table:
    """Recordings and groups of each exercise in each split so far, and what each should come to."""

    def __init__(self, fractions: Mapping[str, float], there: Mapping[str, list[_Group]], free: list[_Group]):
        self.fractions = fractions
        self.asked = [split for split in SPLITS if fractions[split] > 0]
        self.recordings: dict[str, Counter] = defaultdict(Counter)  # exercise -> split -> number
        self.groups: dict[str, Counter] = defaultdict(Counter)
        for split, groups in there.items():
            for group in groups:
                self.add(group, split)
        self.totals = {
            exercise: sum(counts[split] for split in self.asked) for exercise, counts in self.recordings.items()
        }
        self.all_groups = Counter({exercise: counts.total() for exercise, counts in self.groups.items()})
        for group in free:
            for exercise, count in group.recordings.items():
                self.totals[exercise] = self.totals.get(exercise, 0) + count
                self.all_groups[exercise] += 1

    def add(self, group: _Group, split: str, sign: int = 1) -> None:
        for exercise, count in group.recordings.items():
            self.recordings[exercise][split] += sign * count
            self.groups[exercise][split] += sign

    def due(self, exercise: str, split: str) -> float:
        """Recordings that the split still lacks of its share."""
        return round(self.fractions[split] * self.totals[exercise] - self.recordings[exercise][split], 6)

    def cost(self, group: _Group, split: str) -> float:
        """What adding the group would do to the sum of (number - share)^2 / share over exercises and splits."""
        fraction = self.fractions[split]
        terms = (n * (n - 2 * self.due(e, split)) / (fraction * self.totals[e]) for e, n in group.recordings.items())
        return round(sum(terms), 9)

    def needed(self, group: _Group, split: str) -> bool:
        """Whether the split would lose its last group of an exercise that has enough for all."""
        return any(
            self.groups[exercise][split] == 1 and self.all_groups[exercise] >= len(self.asked)
            for exercise in group.recordings
        )


def _deal_large(groups: list[_Group], table: _Table, seed: int) -> dict[str, str]:
    """Give groups of several recordings to the splits, large ones first, each where it disturbs the shares least."""
    dealt = {}
    for group in sorted(groups, key=lambda g: (-g.recordings.total().bit_length(), _order(seed, g.name))):
        split = min(table.asked, key=lambda split: table.cost(group, split))
        dealt[group.name] = split
        table.add(group, split)
    return dealt


def _sizes(n: int, exercise: str, table: _Table, owed: dict[str, float]) -> dict[str, int]:
    """How many of ``n`` single recordings go to each split; updates ``owed``."""
    due = {split: table.due(exercise, split) for split in table.asked}
    sizes = dict.fromkeys(SPLITS, 0)
    for _ in range(n):
        sizes[max(due, key=lambda split: round(owed[split] + due[split] - sizes[split], 6))] += 1
    if table.all_groups[exercise] >= len(table.asked):
        there = table.groups[exercise]
        for split in table.asked:
            largest = max((s for s in SPLITS if sizes[s]), key=lambda s: sizes[s] + there[s])
            if not sizes[split] + there[split] and sizes[largest] + there[largest] > 1:
                sizes[largest] -= 1
                sizes[split] = 1
    for split in due:
        owed[split] = max(-1.0, min(1.0, owed[split] + due[split] - sizes[split]))  # no more than rounding can owe
    return sizes


def _deal(labels: dict[str, str], sizes: dict[str, int], seed: int, seen: Counter) -> dict[str, str]:
    """Give the recordings of one exercise, with their labels, to the splits; ``seen`` counts (split, fault) so far."""

    def order(text: str) -> str:
        return _order(seed, text)

    def fault(source: str) -> str:
        return _fault(labels[source])

    stacks = defaultdict(list)
    for source in sorted(labels, key=order):
        stacks[labels[source]].append(source)
    by_label = sorted(stacks.values(), key=lambda stack: (-len(stack), order(labels[stack[0]])))
    train = [stack.pop(0) for stack in by_label[: sizes["train"]]]  # one of each label, the frequent ones first
    places = {source: ((i + 0.5) / len(stack), order(source)) for stack in by_label for i, source in enumerate(stack)}
    rest = sorted(places, key=places.get)  # any stretch of it holds the labels in proportion
    n_held = sizes["val"] + sizes["test"]
    dealt = dict.fromkeys(train + rest[n_held:], "train")
    filled = {"val": 0, "test": 0}
    by_fault = defaultdict(list)
    for source in rest[:n_held]:
        by_fault[fault(source)].append(source)
    odd = []  # what is left of each fault when it is shared out
    for held in by_fault.values():
        first, last = (len(held) * sizes[split] // n_held for split in filled)
        ranked = sorted(held, key=order)  # from both ends, so that one more recording moves few
        for split, share in (("val", ranked[:first]), ("test", ranked[len(held) - last :])):
            dealt |= dict.fromkeys(share, split)
            filled[split] += len(share)
            seen[split, fault(held[0])] += len(share)
        odd += ranked[first : len(held) - last]
    # "no obvious issue" occurs in every exercise: val and test take turns over the exercises too
    for source in sorted(odd, key=lambda source: -sum(seen[split, fault(source)] for split in filled)):
        room = [split for split in filled if filled[split] < sizes[split]]
        split = min(
            room, key=lambda s: (seen[s, fault(source)] / sizes[s], filled[s] / sizes[s], order(f"{s}:{source}"))
        )
        filled[split] += 1
        seen[split, fault(source)] += 1
        dealt[source] = split
    return dealt


def _cover(free: list[_Group], dealt: dict[str, str], table: _Table, seed: int) -> None:
    """Move groups into splits that lack an exercise, where no other lack comes of it."""
    by_exercise = defaultdict(list)
    for group in free:
        for exercise in group.recordings:
            by_exercise[exercise].append(group)
    for exercise in sorted(by_exercise, key=lambda exercise: (table.all_groups[exercise], exercise)):
        if table.all_groups[exercise] < len(table.asked):
            continue
        for split in table.asked:
            if table.groups[exercise][split]:
                continue
            movable = [group for group in by_exercise[exercise] if not table.needed(group, dealt[group.name])]
            if movable:
                group = min(movable, key=lambda group: (table.cost(group, split), _order(seed, group.name)))
                table.add(group, dealt[group.name], -1)
                table.add(group, split)
                dealt[group.name] = split


def _report(result: Splits, table: _Table, pins: Mapping[str, str], exercises: Mapping[str, str]) -> None:
    """Add to the notices what is not as one would expect."""
    if pins:
        gone = sorted(path for path in pins if path not in exercises)
        listed = f", {len(gone)} of its lines speak of no clip here ({_some(gone)})" if gone else ""
        result.notice(
            f"splits.csv settles {len(pins) - len(gone)} of {len(exercises)} clips{listed}",
            logging.WARNING if gone else logging.INFO,
        )
    wanted = table.asked + ["test"] * (result.source == "labels")
    for exercise in sorted(table.groups):
        lacking = [split for split in wanted if not table.groups[exercise][split]]
        if lacking and table.all_groups[exercise] >= 3:
            result.notice(
                f"{exercise} has {table.all_groups[exercise]} groups, but no clip in {' and '.join(lacking)}: "
                "what is settled, or clips of one person in several exercises, leave none for it",
                logging.WARNING,
            )
    if result.leaks:
        shown, remedy = _some(result.leaks), "correct splits.csv or the labels"
        log.warning("recordings or persons in several splits, %d: %s; %s", len(result.leaks), shown, remedy)


def _some(items: list[str], limit: int = 3) -> str:
    return ", ".join(items[:limit]) + (", ..." if len(items) > limit else "")
