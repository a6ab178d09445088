"""Deal groups of clips to train, val and test, so that each exercise has its share in each. Standard library only.

Large groups go first, each to the split where it disturbs the shares least. Single recordings then fill each exercise's
shares, spread over the labels. At last, groups move to splits that lack an exercise.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from mobilevideogpt.annotations.clips import SPLITS


@dataclass
class Group:
    """Clips that stay together.

    Attributes:
        name: The shortest path of its clips.
        clips: Their paths.
        recordings: Number of recordings of each exercise; the copies of a recording are not counted.
    """

    name: str
    clips: list[str]
    recordings: Counter[str]


class Shares:
    """Recordings and groups of each exercise in each split so far, and the shares that are asked for.

    Args:
        fractions: Fraction of each split.
        fixed: The groups of each split that are settled already.
        free: The groups that are still to be dealt.
    """

    def __init__(self, fractions: Mapping[str, float], fixed: Mapping[str, list[Group]], free: list[Group]):
        self.fractions = fractions
        self.asked = [split for split in SPLITS if fractions[split] > 0]
        self.recordings: dict[str, Counter[str]] = defaultdict(Counter)  # exercise -> split -> number
        self.groups: dict[str, Counter[str]] = defaultdict(Counter)
        for split, groups in fixed.items():
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

    def add(self, group: Group, split: str, sign: int = 1) -> None:
        """Count a group in a split; with ``sign`` -1, count it out."""
        for exercise, count in group.recordings.items():
            self.recordings[exercise][split] += sign * count
            self.groups[exercise][split] += sign

    def due(self, exercise: str, split: str) -> float:
        """Recordings that the split still lacks of its share."""
        return round(self.fractions[split] * self.totals[exercise] - self.recordings[exercise][split], 6)

    def cost(self, group: Group, split: str) -> float:
        """Change of the sum of (number - share)^2 / share, over exercises and splits, if the group is added."""
        fraction = self.fractions[split]
        terms = (n * (n - 2 * self.due(e, split)) / (fraction * self.totals[e]) for e, n in group.recordings.items())
        return round(sum(terms), 9)

    def suffices(self, exercise: str) -> bool:
        """Whether an exercise has a group for each split."""
        return self.all_groups[exercise] >= len(self.asked)

    def needed(self, group: Group, split: str) -> bool:
        """Whether the split would lose its last group of an exercise that has enough for all splits."""
        return any(self.groups[exercise][split] == 1 and self.suffices(exercise) for exercise in group.recordings)


def deal(
    free: list[Group],
    fixed: Mapping[str, list[Group]],
    fractions: Mapping[str, float],
    labels: Mapping[str, str],
    seed: int,
) -> tuple[dict[str, str], Shares]:
    """Deal the free groups to the splits.

    Args:
        free: Groups to deal.
        fixed: The groups of each split that are settled already.
        fractions: Fraction of each split.
        labels: Clip path to its label.
        seed: Chooses among equal choices.

    Returns:
        Name of each free group to its split; the shares that all groups together come to.
    """
    shares = Shares(fractions, fixed, free)
    dealt = _deal_large([group for group in free if group.recordings.total() > 1], shares, seed)
    faults: Counter[tuple[str, str]] = Counter()  # (split, fault) -> recordings so far
    for split, groups in fixed.items():
        faults.update((split, _fault(labels.get(group.name, ""))) for group in groups)
    singles = defaultdict(list)
    for group in free:
        if group.recordings.total() == 1:
            singles[next(iter(group.recordings))].append(group)
    owed = dict.fromkeys(SPLITS, 0.0)  # recordings that rounding withheld from each split in the exercises before
    for exercise, groups in sorted(singles.items()):
        sizes = _sizes(len(groups), exercise, shares, owed)
        splits = _deal_singles({group.name: labels.get(group.name, "") for group in groups}, sizes, seed, faults)
        dealt |= splits
        for group in groups:
            shares.add(group, splits[group.name])
    _cover(free, dealt, shares, seed)
    return dealt, shares


def _order(seed: int, text: str) -> str:
    """A sort key that looks random and depends on nothing but the seed and the text."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _fault(label: str) -> str:
    """The part of a label that several exercises share."""
    return label.partition(" - ")[2] or label


def _deal_large(groups: list[Group], shares: Shares, seed: int) -> dict[str, str]:
    """Deal groups of several recordings, large ones first, each to the split where it disturbs the shares least."""
    dealt = {}
    for group in sorted(groups, key=lambda g: (-g.recordings.total().bit_length(), _order(seed, g.name))):
        split = min(shares.asked, key=lambda split: shares.cost(group, split))
        dealt[group.name] = split
        shares.add(group, split)
    return dealt


def _sizes(n: int, exercise: str, shares: Shares, owed: dict[str, float]) -> dict[str, int]:
    """Return how many of ``n`` single recordings each split gets; update ``owed``."""
    due = {split: shares.due(exercise, split) for split in shares.asked}
    sizes = dict.fromkeys(SPLITS, 0)
    for _ in range(n):
        sizes[max(due, key=lambda split: round(owed[split] + due[split] - sizes[split], 6))] += 1
    if shares.suffices(exercise):
        there = shares.groups[exercise]
        for split in shares.asked:
            largest = max((s for s in SPLITS if sizes[s]), key=lambda s: sizes[s] + there[s])
            if not sizes[split] + there[split] and sizes[largest] + there[largest] > 1:
                sizes[largest] -= 1
                sizes[split] = 1
    for split in due:
        owed[split] = max(-1.0, min(1.0, owed[split] + due[split] - sizes[split]))  # rounding owes no more than one
    return sizes


def _deal_singles(
    labels: dict[str, str], sizes: dict[str, int], seed: int, faults: Counter[tuple[str, str]]
) -> dict[str, str]:
    """Deal the single recordings of one exercise, given with their labels.

    Train gets one recording of each label first, the frequent labels before the rare ones. The others are put in an
    order in which each stretch has the labels in proportion; val and test share the first stretch, train gets the rest.
    """
    by_label = defaultdict(list)
    for name in sorted(labels, key=lambda name: _order(seed, name)):
        by_label[labels[name]].append(name)
    stacks = sorted(by_label.values(), key=lambda stack: (-len(stack), _order(seed, labels[stack[0]])))
    train = [stack.pop(0) for stack in stacks[: sizes["train"]]]
    places = {name: ((i + 0.5) / len(stack), _order(seed, name)) for stack in stacks for i, name in enumerate(stack)}
    rest = sorted(places, key=lambda name: places[name])
    n_held_out = sizes["val"] + sizes["test"]
    dealt = dict.fromkeys(train + rest[n_held_out:], "train")
    return dealt | _deal_held_out({name: _fault(labels[name]) for name in rest[:n_held_out]}, sizes, seed, faults)


def _deal_held_out(
    fault_of: dict[str, str], sizes: dict[str, int], seed: int, faults: Counter[tuple[str, str]]
) -> dict[str, str]:
    """Deal recordings, given with their faults, to val and test, so that both get each fault in proportion.

    ``faults`` counts (split, fault) over all exercises and is updated: "no obvious issue" occurs in every exercise, so
    val and test alternate over the exercises, too.
    """
    dealt: dict[str, str] = {}
    filled = {"val": 0, "test": 0}
    by_fault = defaultdict(list)
    for name, fault in fault_of.items():
        by_fault[fault].append(name)
    odd = []  # what is left of each fault after both splits have their whole shares
    for fault, names in by_fault.items():
        first, last = (len(names) * sizes[split] // len(fault_of) for split in filled)
        ranked = sorted(names, key=lambda name: _order(seed, name))  # from both ends: one more recording moves few
        for split, share in (("val", ranked[:first]), ("test", ranked[len(names) - last :])):
            dealt |= dict.fromkeys(share, split)
            filled[split] += len(share)
            faults[split, fault] += len(share)
        odd += ranked[first : len(names) - last]
    for name in sorted(odd, key=lambda name: -sum(faults[split, fault_of[name]] for split in filled)):
        fault = fault_of[name]
        split = min(
            (split for split in filled if filled[split] < sizes[split]),
            key=lambda s: (faults[s, fault] / sizes[s], filled[s] / sizes[s], _order(seed, f"{s}:{name}")),
        )
        filled[split] += 1
        faults[split, fault] += 1
        dealt[name] = split
    return dealt


def _cover(free: list[Group], dealt: dict[str, str], shares: Shares, seed: int) -> None:
    """Move groups into splits that lack an exercise, where no other split then lacks one."""
    by_exercise = defaultdict(list)
    for group in free:
        for exercise in group.recordings:
            by_exercise[exercise].append(group)
    for exercise in sorted(by_exercise, key=lambda exercise: (shares.all_groups[exercise], exercise)):
        if not shares.suffices(exercise):
            continue
        for split in shares.asked:
            if shares.groups[exercise][split]:
                continue
            movable = [group for group in by_exercise[exercise] if not shares.needed(group, dealt[group.name])]
            if movable:
                group = min(movable, key=lambda group: (shares.cost(group, split), _order(seed, group.name)))
                shares.add(group, dealt[group.name], -1)
                shares.add(group, split)
                dealt[group.name] = split
