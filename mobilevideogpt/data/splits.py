"""Train, validation and test: stratified by exercise, whole recordings, the same for a seed. Standard library only."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.errors import InputError
from mobilevideogpt.paths import source_of

SPLITS = ("train", "val", "test")


def assign_splits(
    clips: Iterable[Clip], labels: Mapping[str, str], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Give each clip its split.

    A recording and the clips augmented from it stay together. Each exercise has its share in each split, at least one
    recording where it has as many recordings as there are splits; train holds each label of the exercise where its
    share allows, and val and test are spread over the labels.

    Args:
        clips: The clips.
        labels: Clip path to what it shows, to spread over the splits.
        fractions: ``train``, ``val`` and ``test``, of sum 1.
        seed: Chooses among equal choices. Neither the clips' order nor PYTHONHASHSEED matters.

    Returns:
        Clip path to ``train``, ``val`` or ``test``.

    Raises:
        InputError: If the fractions are none, or a split that was asked for stays empty.
    """
    _check(fractions)
    clips = sorted(clips, key=lambda clip: clip.path)
    paths = {clip.path for clip in clips}
    recordings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        recordings[clip.exercise][source_of(clip.path, paths)].append(clip.path)
    splits: dict[str, str] = {}
    owed = dict.fromkeys(SPLITS, 0.0)  # what rounding withheld from each split in the exercises before
    for exercise in sorted(recordings):
        groups = recordings[exercise]
        sizes = _sizes(len(groups), fractions, owed)
        for source, split in _deal({source: labels.get(source, "") for source in groups}, sizes, seed).items():
            splits |= dict.fromkeys(groups[source], split)
    for split in SPLITS:
        if fractions[split] > 0 and split not in splits.values():
            raise InputError(
                f"annotations.split.{split} is {fractions[split]:g}, but {len(clips)} clips in {len(recordings)} "
                f"exercises leave none for it; add clips (three an exercise suffice), "
                f"or set annotations.split.{split} to 0"
            )
    return splits


def _check(fractions: Mapping[str, float]) -> None:
    values = [fractions[split] for split in SPLITS]
    if min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=1e-6) or not fractions["train"] > 0:
        shown = ", ".join(f"{split}: {fractions[split]:g}" for split in SPLITS)
        raise InputError(
            f"annotations.split {{{shown}}}: the fractions must not be negative, train above 0, their sum 1"
        )


def _sizes(n: int, fractions: Mapping[str, float], owed: dict[str, float]) -> dict[str, int]:
    """How many of ``n`` recordings go to each split; updates ``owed``."""
    shares = {split: round(n * fractions[split], 6) for split in SPLITS}
    sizes = {split: int(shares[split]) for split in SPLITS}
    asked = [split for split in SPLITS if fractions[split] > 0]
    for _ in range(n - sum(sizes.values())):
        sizes[max(asked, key=lambda split: round(owed[split] + shares[split] - sizes[split], 6))] += 1
    if n >= len(asked):
        for split in asked:
            if not sizes[split]:
                sizes[max(SPLITS, key=sizes.get)] -= 1
                sizes[split] = 1
    for split in SPLITS:
        owed[split] += shares[split] - sizes[split]
    return sizes


def _deal(labels: dict[str, str], sizes: dict[str, int], seed: int) -> dict[str, str]:
    """Give the recordings of one exercise, with their labels, to the splits."""

    def order(text: str) -> str:
        return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

    stacks = defaultdict(list)
    for source in sorted(labels, key=order):
        stacks[labels[source]].append(source)
    by_label = [stacks[label] for label in sorted(stacks, key=lambda label: (-len(stacks[label]), order(label)))]
    train = [stack[0] for stack in by_label][: sizes["train"]]  # one of each label, the frequent ones first
    taken = set(train)
    rounds = [
        stack[i]
        for i in range(max(map(len, by_label)))
        for stack in by_label
        if i < len(stack) and stack[i] not in taken
    ]
    n_held = sizes["val"] + sizes["test"]
    dealt = dict.fromkeys(train + rounds[n_held:], "train")
    filled = {"val": 0, "test": 0}
    for source in rounds[:n_held]:
        split = min((s for s in filled if filled[s] < sizes[s]), key=lambda s: filled[s] / sizes[s])
        filled[split] += 1
        dealt[source] = split
    return dealt
