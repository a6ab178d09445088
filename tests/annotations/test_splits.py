import random
import subprocess
import sys
import time
from collections import Counter, defaultdict

import pytest

from mobilevideogpt.annotations.clips import SPLITS, Clip
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.annotations.splits import assign_splits as assign
from mobilevideogpt.errors import InputError

DEFAULT = {"train": 0.6, "val": 0.2, "test": 0.2}


def clips(**sizes):
    return [Clip(f"dataset/{exercise}/{i}.mp4", exercise) for exercise, size in sizes.items() for i in range(size)]


def labelled(clips, labels=(), own=()):
    """The labels of the clips, with the data set's own split."""
    labels, own = dict(labels), dict(own)
    return {c.path: Label(c.path, (labels.get(c.path, ""),), split=own.get(c.path)) for c in clips}


def assign_splits(clips, labels, fractions, seed):
    return assign(clips, labelled(clips, labels), fractions, seed).by_clip


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
        "from mobilevideogpt.annotations.labels import Label;"
        "from mobilevideogpt.annotations.clips import Clip;"
        "from mobilevideogpt.annotations.splits import assign_splits;"
        "c = [Clip(f'dataset/{e}/{i}.mp4', e) for e, n in (('a', 9), ('b', 7)) for i in range(n)];"
        "r = {x.path: Label(x.path) for x in c};"
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


def test_the_data_sets_own_split_is_used_and_validation_carved_out_of_train():
    every = clips(a=20, b=20)
    own = {clip.path: "test" if int(clip.path[-5]) < 3 else "train" for clip in every}
    for source in ("auto", "labels"):
        findings = Findings()
        splits = assign(every, labelled(every, own=own), DEFAULT, 1, source=source, findings=findings)
        assert splits.source == "labels"
        assert {path for path, split in splits.by_clip.items() if split == "test"} == {
            path for path, split in own.items() if split == "test"
        }
        # 14 recordings of each exercise are left for train and val, 3 to 1
        assert Counter(splits.by_clip.values()) == {"train": 21, "val": 7, "test": 12}
        assert findings.notices == [(Code.OWN_SPLIT_USED, "the label file's own split is used (test 12, train 28)")]
    findings = Findings()
    free = assign(every, labelled(every, own=own), DEFAULT, 1, source="fractions", findings=findings)
    assert free.source == "fractions" and table(free.by_clip) == {"a": (12, 4, 4), "b": (12, 4, 4)}
    assert [code for code, _ in findings.notices] == [Code.OWN_SPLIT_NOT_ASKED_FOR]


@pytest.mark.parametrize("own", ["train", "test", None])
def test_a_split_of_one_value_or_none_gives_way_to_the_fractions_with_a_notice(own):
    every = clips(a=10)
    labels = labelled(every, own={clip.path: own for clip in every})
    findings = Findings()
    splits = assign(every, labels, DEFAULT, 1, findings=findings)
    assert splits.source == "fractions" and table(splits.by_clip) == {"a": (6, 2, 2)}
    expected = {"train": [Code.OWN_SPLIT_ONLY_TRAIN], "test": [Code.OWN_SPLIT_INCOMPLETE], None: []}[own]
    assert [code for code, _ in findings.notices] == expected
    assert all(f"({own} 10) is not used" in sentence for _, sentence in findings.notices)
    with pytest.raises(InputError, match=r"annotations.split_source is labels.*set annotations.split_source to auto"):
        assign(every, labels, DEFAULT, 1, source="labels")


def test_a_split_with_other_names_is_used_and_one_that_is_not_used_is_a_warning(caplog):
    every = clips(a=10)
    own = {clip.path: "testing" if clip.path[-5] in "07" else "training" for clip in every}
    findings = Findings()
    splits = assign(every, labelled(every, own=own), DEFAULT, 1, findings=findings)
    assert [path for path, split in splits.by_clip.items() if split == "test"] == ["dataset/a/0.mp4", "dataset/a/7.mp4"]
    findings.log()
    assert not caplog.records
    assign(every, labelled(every, own=dict.fromkeys(own, "fold 3")), DEFAULT, 1, findings=findings)
    findings.log()
    assert "(fold 3 10) is not used" in caplog.text
    caplog.clear()
    findings = Findings()
    assign(every, labelled(every, own=dict.fromkeys(own, "train")), DEFAULT, 1, findings=findings)
    findings.log()
    assert not caplog.records and "(train 10) is not used: it has no test clips" in findings.notices[0][1]


def test_validation_clips_of_the_data_set_are_kept_and_clips_without_a_split_are_no_test_clips():
    every = clips(a=12)
    names = ["train"] * 4 + ["test"] * 3 + ["validation"] * 2 + [None] * 3
    own = dict(zip((clip.path for clip in every), names, strict=True))
    findings = Findings()
    splits = assign(every, labelled(every, own=own), DEFAULT, 1, findings=findings)
    assert splits.source == "labels" and table(splits.by_clip) == {"a": (7, 2, 3)}
    assert dict(findings.notices)[Code.WITHOUT_OWN_SPLIT].startswith("3 clips have no split in the label file")
    own[every[-1].path] = "holdout"
    with pytest.raises(InputError, match=r"'holdout' beside train and test.*annotations.split_source to fractions"):
        assign(every, labelled(every, own=own), DEFAULT, 1)


def test_all_clips_are_trained_on_if_train_is_1():
    every = clips(a=4, b=1)
    own = {clip.path: ("train", "test")[number % 2] for number, clip in enumerate(every)}
    findings = Findings()
    splits = assign(every, labelled(every, own=own), {"train": 1.0, "val": 0, "test": 0}, 1, findings=findings)
    assert set(splits.by_clip.values()) == {"train"} and len(splits.by_clip) == 5
    assert [code for code, _ in findings.notices] == [Code.OWN_SPLIT_ALL_TRAIN]


def test_pins_come_first_and_their_group_follows(caplog):
    every = clips(a=12, b=12)
    own = {clip.path: "test" if clip.path.endswith("/0.mp4") else "train" for clip in every}
    workers = {"dataset/a/1.mp4": "w", "dataset/b/1.mp4": "w", "dataset/a/2.mp4": "v", "dataset/b/2.mp4": "v"}
    pins = {
        "dataset/a/1.mp4": "val",
        "dataset/b/0.mp4": "train",
        "dataset/gone/9.mp4": "test",
        "dataset/a/2.mp4": "test",
    }
    every.append(Clip("dataset/b/0_1.mp4", "b"))
    findings = Findings()
    splits = assign(every, labelled(every, own=own), DEFAULT, 3, workers=workers, pins=pins, findings=findings)
    got = splits.by_clip
    assert [got[path] for path in ("dataset/a/1.mp4", "dataset/b/1.mp4")] == ["val", "val"]
    assert [got[path] for path in ("dataset/a/2.mp4", "dataset/b/2.mp4")] == ["test", "test"]
    assert [got[path] for path in ("dataset/b/0.mp4", "dataset/b/0_1.mp4")] == ["train", "train"]
    assert got["dataset/a/0.mp4"] == "test"
    assert not splits.leaks
    notices = dict(findings.notices)
    assert notices[Code.PINNED] == "splits.csv settles 3 of 25 clips"
    assert notices[Code.PINS_WITHOUT_CLIP].endswith(
        "1 line of splits.csv names a clip that is not in the manifest (dataset/gone/9.mp4)"
    )
    findings.log()
    assert notices[Code.PINS_WITHOUT_CLIP] in caplog.text, "a mistyped clip is a warning"


def test_pins_that_divide_a_group_are_kept_and_reported_as_a_leak(caplog):
    every = [*clips(a=9), Clip("dataset/a/0_1.mp4", "a"), Clip("dataset/a/0_2.mp4", "a")]
    pins = {"dataset/a/0.mp4": "train", "dataset/a/0_1.mp4": "test"}
    findings = Findings()
    splits = assign(every, labelled(every), DEFAULT, 0, pins=pins, findings=findings)
    assert {path: splits.by_clip[path] for path in pins} == pins
    assert splits.leaks == ["dataset/a/0_1.mp4 is test and dataset/a/0.mp4 is train"]
    findings.log()
    assert "1 recording or person in several splits" in caplog.text and "dataset/a/0_1.mp4" in caplog.text


def test_copies_follow_the_pin_of_a_recording_that_no_longer_exists():
    every = [*clips(a=9), Clip("dataset/a/00000007_1.mp4", "a")]
    pins = {"dataset/a/00000007.mp4": "test"}
    for seed in range(5):
        assert assign(every, labelled(every), DEFAULT, seed, pins=pins).by_clip["dataset/a/00000007_1.mp4"] == "test"


def test_an_exercise_that_cannot_be_in_each_split_is_named():
    # one person is in all clips of b but one, and in a; so b has two groups only, and c three that are pinned
    every = clips(a=9, b=4, c=3)
    workers = {f"dataset/b/{i}.mp4": "w" for i in range(3)} | {"dataset/a/0.mp4": "w"}
    pins = {f"dataset/c/{i}.mp4": "train" for i in range(3)}
    findings = Findings()
    assign(every, labelled(every), DEFAULT, 0, workers=workers, pins=pins, findings=findings)
    [sentence] = [sentence for code, sentence in findings.notices if code is Code.EXERCISE_LACKS_SPLIT]
    assert sentence.startswith("c has 3 groups, but no clip in val and test")


def day(date, exercises=("squats", "lunges"), takes="abc"):
    """Clips named after the day on which they were recorded."""
    return [
        Clip(f"dataset/{exercise}/{date}_{exercise}_{number}{take}.mp4", exercise)
        for exercise in exercises
        for number in range(1, 5)
        for take in takes
    ]


def test_clips_of_one_day_are_recordings_of_their_own():
    every = day("20240115")
    findings = Findings()
    splits = assign(every, labelled(every), DEFAULT, 0, findings=findings)
    assert splits.groups == len(every) == 24 and not findings.notices
    assert splits.group_of == {clip.path: clip.path for clip in every}


DAY = r".*/(\d{8})_.*"


def test_a_group_of_most_clips_is_a_warning_that_names_the_pattern_and_what_it_found(caplog):
    every = [*day("20240115"), *clips(squats=5, lunges=5)]
    findings = Findings()
    splits = assign(every, labelled(every), DEFAULT, 0, recording_pattern=DAY, findings=findings)
    assert splits.groups == 11
    assert {splits.group_of[clip.path] for clip in every[:24]} == {"dataset/lunges/20240115_lunges_1a.mp4"}
    sentence = dict(findings.notices)[Code.LARGE_GROUP]
    assert sentence.startswith(
        f"24 of 34 clips are one group, which stays in one split: annotations.recording_pattern '{DAY}' finds the "
        "recording '20240115' in 24 of them (dataset/lunges/20240115_lunges_1a.mp4, "
    )
    findings.log()
    assert sentence in caplog.text


def test_a_person_in_most_clips_is_named_instead_of_the_pattern():
    every = clips(a=9)
    workers = {clip.path: "w7" for clip in every[:6]}
    findings = Findings()
    assign(every, labelled(every), DEFAULT, 0, workers=workers, findings=findings)
    assert "the file of the persons names worker 'w7' for 6 of them" in dict(findings.notices)[Code.LARGE_GROUP]


def test_recordings_that_span_exercises_are_a_notice_that_names_the_pattern_and_what_it_found():
    every = [clip for date in ("20240115", "20240116", "20240117", "20240118") for clip in day(date)]
    findings = Findings()
    assert assign(every, labelled(every), DEFAULT, 0, recording_pattern=DAY, findings=findings).groups == 4
    [(code, sentence)] = findings.notices
    assert code is Code.SEVERAL_EXERCISES
    assert sentence.startswith(
        "4 recordings contain clips of several exercises ('20240115': dataset/lunges/20240115_lunges_1a.mp4, "
        "dataset/squats/20240115_squats_1a.mp4): annotations.recording_pattern"
    )
    findings = Findings()
    every = day("20240115", exercises=["squats"])
    assign(every, labelled(every), {"train": 1, "val": 0, "test": 0}, 0, recording_pattern=DAY, findings=findings)
    assert not findings.notices


def test_an_empty_split_is_an_error_that_names_what_joined_the_clips():
    every = day("20240115")
    with pytest.raises(InputError) as error:
        assign(every, labelled(every), DEFAULT, 0, recording_pattern=DAY)
    for part in (
        "24 of the clips are one group",
        DAY,
        "'20240115'",
        "change the pattern",
        "annotations.split.val to 0",
    ):
        assert part in str(error.value)


def random_set(rng):
    """Clips with copies, labels, and persons who are known for some and occur in several exercises."""
    exercises = [f"e{i}" for i in range(rng.randint(1, 8))]
    every, labels, workers = [], {}, {}
    persons, known = rng.randint(3, 60), rng.choice([0, 0.5, 1])
    for number in range(rng.randint(40, 300)):
        exercise = rng.choice(exercises)
        person = f"w{rng.randrange(persons)}" if rng.random() < known else None
        for copy in ["", *(f"_{k}" for k in range(1, rng.choice([1, 1, 4])))]:
            clip = Clip(f"dataset/{exercise}/{number:08d}{copy}.mp4", exercise)
            every.append(clip)
            labels[clip.path] = f"{exercise} - {rng.randrange(4)}"
            if person and not copy:
                workers[clip.path] = person
    return every, labels, workers


def units(every, workers):
    """The group of each clip, found otherwise than by the code: by joining until nothing changes."""
    tags = {clip.path: {clip.path[-16:].split("/")[-1][:8]} | {workers.get(clip.path, clip.path)} for clip in every}
    group = {path: {path} for path in tags}
    for path in tags:
        for other in tags:
            if tags[path] & tags[other] and group[path] is not group[other]:
                group[path] |= group[other]
                for member in group[other]:
                    group[member] = group[path]
    return group


@pytest.mark.parametrize("seed", range(12))
def test_no_group_of_any_data_set_is_divided_and_shares_are_kept(seed):
    rng = random.Random(seed)
    every, labels, workers = random_set(rng)
    findings = Findings()
    splits = assign(every, labelled(every, labels), DEFAULT, seed, workers=workers, findings=findings)
    got = splits.by_clip
    assert set(got) == set(labels) and not splits.leaks
    group = units(every, workers)
    assert all(len({got[path] for path in members}) == 1 for members in group.values())
    assert splits.groups == len({id(members) for members in group.values()})

    originals = [clip for clip in every if "_" not in clip.path]
    of_exercise = defaultdict(list)
    for clip in originals:
        of_exercise[clip.exercise].append(clip.path)
    for exercise, paths in of_exercise.items():
        size = Counter(id(group[path]) for path in paths)
        for split, fraction in DEFAULT.items():
            share = sum(got[path] == split for path in paths)
            assert abs(share - fraction * len(paths)) <= 2 + 1.5 * max(size.values()), (exercise, split)
            if len(size) >= 3 and not share:
                assert any(sentence.startswith(f"{exercise} has") for _, sentence in findings.notices)

    shuffled = rng.sample(every, len(every))
    assert assign(shuffled, labelled(shuffled, labels), DEFAULT, seed, workers=workers).by_clip == got


@pytest.mark.parametrize("seed", range(8))
def test_pinned_clips_stay_whatever_is_added_and_new_ones_follow_their_group(seed):
    rng = random.Random(seed)
    every, labels, workers = random_set(rng)
    group = units(every, workers)
    old = [clip for clip in every if rng.random() < 0.8]
    pins = assign(old, labelled(old, labels), DEFAULT, seed, workers=workers).by_clip
    after = assign(every, labelled(every, labels), DEFAULT, seed + 1, workers=workers, pins=pins)
    assert {path: after.by_clip[path] for path in pins} == pins
    bridged = {id(members) for members in group.values() if len({pins[path] for path in members if path in pins}) > 1}
    assert len(after.leaks) == len(bridged)  # a new clip can show that two old ones are of one group
    for clip in every:
        members = group[clip.path]
        if id(members) not in bridged and (before := {pins[path] for path in members if path in pins}):
            assert after.by_clip[clip.path] in before


def test_one_more_clip_moves_few_of_the_others():
    every = clips(**{f"e{i:02d}": 100 for i in range(10)})
    rng = random.Random(0)
    labels = {clip.path: f"{clip.exercise} - {rng.randrange(4)}" for clip in every}
    before = assign_splits(every, labels, DEFAULT, 1)
    for number in range(5):
        new = Clip(f"dataset/e0{number}/new.mp4", f"e0{number}")
        after = assign_splits([*every, new], labels | {new.path: "e - 1"}, DEFAULT, 1)
        assert sum(after[path] != split for path, split in before.items()) <= 30  # of 1,000


def test_the_time_grows_with_the_clips_and_not_with_their_square():
    every = clips(**{f"e{i:03d}": 200 for i in range(100)})
    labels = labelled(every, {clip.path: f"{clip.exercise} - {clip.path[-5]}" for clip in every})
    workers = {clip.path: f"w{number % 997}" for number, clip in enumerate(every) if number % 2}
    started = time.process_time()
    splits = assign(every, labels, DEFAULT, 0, workers=workers).by_clip
    assert time.process_time() - started < 5  # 20,000 clips; takes half a second
    counted = Counter(splits.values())
    assert all(abs(counted[split] / len(every) - fraction) < 0.005 for split, fraction in DEFAULT.items())
