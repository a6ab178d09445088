import random
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from mobilevideogpt.data.labels import LabelRecord
from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.data.splits import SPLITS
from mobilevideogpt.data.splits import assign_splits as assign
from mobilevideogpt.errors import InputError

DEFAULT = {"train": 0.6, "val": 0.2, "test": 0.2}


def clips(**sizes):
    return [Clip(f"dataset/{exercise}/{i}.mp4", exercise) for exercise, size in sizes.items() for i in range(size)]


def said(clips, labels=(), own=()):
    """What the data set says of each clip: its label, and its split."""
    labels, own = dict(labels), dict(own)
    return {c.path: LabelRecord(c.path, (labels.get(c.path, ""),), split=own.get(c.path)) for c in clips}


def assign_splits(clips, labels, fractions, seed):
    return assign(clips, said(clips, labels), fractions, seed).by_clip


def table(splits):
    counted = defaultdict(Counter)
    for path, split in splits.items():
        counted[path.split("/")[1]][split] += 1
    return {exercise: tuple(counts[split] for split in SPLITS) for exercise, counts in counted.items()}


@pytest.mark.parametrize(
    ("n", "fractions", "expected"),
    [
        (5, DEFAULT, (3, 1, 1)),
        (3, DEFAULT, (1, 1, 1)),
        (4, DEFAULT, (2, 1, 1)),
        (10, DEFAULT, (6, 2, 2)),
        (100, {"train": 0.7, "val": 0.1, "test": 0.2}, (70, 10, 20)),
        (5, {"train": 1.0, "val": 0, "test": 0}, (5, 0, 0)),
        (1, {"train": 1, "val": 0, "test": 0}, (1, 0, 0)),
        (4, {"train": 0.8, "val": 0.2, "test": 0}, (3, 1, 0)),
        (3, {"train": 0.98, "val": 0.01, "test": 0.01}, (1, 1, 1)),
    ],
)
def test_sizes_follow_the_fractions_and_leave_no_split_without(n, fractions, expected):
    assert table(assign_splits(clips(a=n, b=n), {}, fractions, 1)) == {"a": expected, "b": expected}


def test_what_rounding_withholds_in_one_exercise_the_next_gives_back():
    splits = assign_splits(clips(**{f"e{i}": 2 for i in range(10)}), {}, DEFAULT, 1)
    assert Counter(splits.values()) == {"train": 12, "val": 4, "test": 4}


def test_train_holds_each_label_and_the_rest_is_spread():
    labels = {f"dataset/a/{i}.mp4": label for i, label in enumerate("AAABBCDEEE")}
    for seed in range(20):
        splits = assign_splits(clips(a=10), labels, DEFAULT, seed)
        seen = {split: {labels[path] for path, s in splits.items() if s == split} for split in SPLITS}
        assert seen["train"] == set("ABCDE")
        assert len(seen["val"] | seen["test"]) >= 3


def test_a_rare_label_is_not_held_out_more_than_a_frequent_one():
    labels = {f"dataset/a/{i}.mp4": "rare" if i < 10 else "frequent" for i in range(100)}
    splits = assign_splits(clips(a=100), labels, DEFAULT, 0)
    rare = Counter(split for path, split in splits.items() if labels[path] == "rare")
    assert rare["train"] >= 5 and rare["val"] >= 1 and rare["test"] >= 1


def test_no_split_is_left_with_one_kind_of_answer():
    names = [f"e{i}" for i in range(6)]
    labels = {f"dataset/{e}/{i}.mp4": f"{e} - " + ("fine" if i < 2 else "fault " + e) for e in names for i in range(5)}
    for seed in range(20):
        splits = assign_splits(clips(**dict.fromkeys(names, 5)), labels, DEFAULT, seed)
        fine = Counter(split for path, split in splits.items() if labels[path].endswith("fine"))
        assert fine == {"train": 6, "val": 3, "test": 3}


def test_augmented_copies_stay_with_their_recording():
    every = clips(a=6) + [Clip(f"dataset/a/{i}_{k}.mp4", "a") for i in range(6) for k in (1, 2, 14)]
    every.append(Clip("dataset/a/3_1_2.mp4", "a"))
    splits = assign_splits(every, {}, DEFAULT, 3)
    for path, split in splits.items():
        stem = path.rsplit("/", 1)[1].split("_")[0].removesuffix(".mp4")
        assert split == splits[f"dataset/a/{stem}.mp4"]
    assert set(splits.values()) == set(SPLITS)


def test_numbered_names_without_an_unnumbered_one_are_recordings_of_their_own():
    every = [Clip(f"dataset/a/squat_{i}.mp4", "a") for i in range(5)]
    assert table(assign_splits(every, {}, DEFAULT, 0)) == {"a": (3, 1, 1)}


def test_the_split_depends_on_the_seed_and_not_on_order_or_hashing():
    every = clips(a=9, b=7)
    first = assign_splits(every, {}, DEFAULT, 5)
    random.Random(0).shuffle(every)
    assert assign_splits(every, {}, DEFAULT, 5) == first
    assert any(assign_splits(every, {}, DEFAULT, seed) != first for seed in range(3))
    code = (
        "from mobilevideogpt.data.labels import LabelRecord; from mobilevideogpt.data.manifest import Clip;"
        "from mobilevideogpt.data.splits import assign_splits;"
        "c = [Clip(f'dataset/{e}/{i}.mp4', e) for e, n in (('a', 9), ('b', 7)) for i in range(n)];"
        "r = {x.path: LabelRecord(x.path) for x in c};"
        f"print(sorted(assign_splits(c, r, {DEFAULT}, 5).by_clip.items()))"
    )
    for hash_seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == str(sorted(first.items()))


@pytest.mark.parametrize(
    ("fractions", "parts"),
    [
        ({"train": 0.6, "val": 0.2, "test": 0.3}, ["annotations.split", "sum 1"]),
        ({"train": 1.2, "val": -0.2, "test": 0}, ["annotations.split", "not be negative"]),
        ({"train": 0, "val": 0.5, "test": 0.5}, ["annotations.split", "train above 0"]),
        (DEFAULT, ["annotations.split.test is 0.2", "2 clips", "add clips", "annotations.split.test to 0"]),
    ],
)
def test_fractions_that_cannot_be_met_are_refused_with_a_remedy(fractions, parts):
    with pytest.raises(InputError) as error:
        assign_splits(clips(a=2), {}, fractions, 0)
    for part in parts:
        assert part in str(error.value)
