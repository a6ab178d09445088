"""Train, validation and test: stratified by exercise, whole recordings, the same for a seed. Standard library only."""

import hashlib
import math
from collections import Counter, defaultdict
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
    recording where it has as many recordings as there are splits. Train holds each label of the exercise where its
    share allows; val and test are spread over the labels, and over the faults (after ``" - "``) of all exercises.

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
    seen: Counter = Counter()
    owed = dict.fromkeys(SPLITS, 0.0)  # what rounding withheld from each split in the exercises before
    for exercise in sorted(recordings):
        groups = recordings[exercise]
        sizes = _sizes(len(groups), fractions, owed)
        shown = {source: labels.get(source, "") for source in groups}
        for source, split in _deal(shown, sizes, seed, seen).items():
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


def _deal(labels: dict[str, str], sizes: dict[str, int], seed: int, seen: Counter) -> dict[str, str]:
    """Give the recordings of one exercise, with their labels, to the splits; ``seen`` counts (split, fault) so far."""

    def order(text: str) -> str:
        return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

    def fault(source: str) -> str:
        return labels[source].partition(" - ")[2] or labels[source]

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
    # "no obvious issue" occurs in every exercise: val and test take turns over the exercises too
    for source in sorted(rest[:n_held], key=lambda source: -sum(seen[split, fault(source)] for split in filled)):
        room = [split for split in filled if filled[split] < sizes[split]]
        split = min(
            room, key=lambda s: (seen[s, fault(source)] / sizes[s], filled[s] / sizes[s], order(f"{s}:{source}"))
        )
        filled[split] += 1
        seen[split, fault(source)] += 1
        dealt[source] = split
    return dealt
