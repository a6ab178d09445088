from pathlib import Path

import pytest
import yaml

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.groups import RECORDING, groups_of, read_workers, recordings_of
from mobilevideogpt.errors import InputError


def together(names, **options):
    """The names of each recording that has two or more."""
    found = {}
    for path, recording in recordings_of([f"dataset/{name}.mp4" for name in names], **options).by_clip.items():
        found.setdefault(recording, set()).add(path.removeprefix("dataset/").removesuffix(".mp4"))
    return sorted(map(sorted, (group for group in found.values() if len(group) > 1)))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/00018209", "a/00018209_1", "a/00018209_14"], [["a/00018209", "a/00018209_1", "a/00018209_14"]]),
        (["a/00018209_1", "a/00018209_2"], [["a/00018209_1", "a/00018209_2"]]),  # the original is not there
        (["a/00018209", "a/00018209-reencoded"], [["a/00018209", "a/00018209-reencoded"]]),
        (["a/00018209_1_mirrored", "a/00018209_trim"], [["a/00018209_1_mirrored", "a/00018209_trim"]]),
        (["a/00018209", "b/00018209_1"], [["a/00018209", "b/00018209_1"]]),
        (["a/20260101_093000", "a/20260101_094500"], []),  # a phone's date and time
        (["a/squat_1", "a/squat_2"], []),
        (["a/squat_1", "a/squat_2", "a/squat_1_2"], [["a/squat_1", "a/squat_1_2"]]),
        (["a/squat", "a/squat_1", "a/squat_2"], [["a/squat", "a/squat_1", "a/squat_2"]]),
        (
            ["a/squat", "a/squat_mirrored", "a/squat-trimmed", "a/squat_deep"],
            [["a/squat", "a/squat-trimmed", "a/squat_mirrored"]],
        ),
        (["a/0001", "b/0001"], []),
        (["a/00012345", "b/flip_00012345"], [["a/00012345", "b/flip_00012345"]]),
        (["a/00012345 (1)", "a/00012345 copy"], [["a/00012345 (1)", "a/00012345 copy"]]),
        (["a/IMG_1", "a/IMG_1 - Copy", "a/IMG_1_bright"], [["a/IMG_1", "a/IMG_1 - Copy", "a/IMG_1_bright"]]),
        (["a/IMG_1_flip", "a/IMG_1_bright"], [["a/IMG_1_bright", "a/IMG_1_flip"]]),  # the original is not there
        (["a/20240115_squats_1a", "a/20240115_squats_1b", "a/20240115_lunges_1a"], []),  # a date
        (
            ["a/20240115_squats_1a", "a/20240115_squats_1a_flip"],
            [["a/20240115_squats_1a", "a/20240115_squats_1a_flip"]],
        ),
        (["a/15012024_squats_1a", "a/15012024_squats_1b", "b/15012024_lunges_1a"], []),  # the day first
        (["a/01152024-anna-1a", "a/01152024-anna-1b"], []),  # the month first
        (["a/15012024 Squats 1a", "a/15012024 (Squats) 1b"], []),
        # A date or a number of eight digits: copies are not parted.
        (["a/15012024_1", "a/15012024_2"], [["a/15012024_1", "a/15012024_2"]]),
        (["a/15012024", "b/15012024_14"], [["a/15012024", "b/15012024_14"]]),
        (["a/15012024_flip", "b/15012024_1_bright"], [["a/15012024_flip", "b/15012024_1_bright"]]),
        (["a/15012024 (1)", "a/15012024 copy"], [["a/15012024 (1)", "a/15012024 copy"]]),
        (["a/00012345_slow", "a/00012345_anna"], [["a/00012345_anna", "a/00012345_slow"]]),  # QEVD's: no date
        (["a/32012024_a", "a/32012024_b"], [["a/32012024_a", "a/32012024_b"]]),  # day 32: not a date
        (["a/20241399_1", "a/20241399_2"], [["a/20241399_1", "a/20241399_2"]]),  # month 13: not a date
    ],
)
def test_the_recording_of_a_clip_follows_from_its_name(names, expected):
    assert together(names) == expected


def test_no_number_of_qevd_reads_as_a_date():
    names = {f"{number:08d}": [f"a/{number:08d}_a", f"b/{number:08d}_b"] for number in range(0, 1_000_000, 997)}
    assert together([name for both in names.values() for name in both]) == sorted(names.values())


def test_the_schema_has_the_same_default_pattern():
    schema = yaml.safe_load((Path(__file__).parents[2] / "config/schema.yaml").read_text())
    assert schema["properties"]["annotations"]["properties"]["recording_pattern"]["default"] == RECORDING


def test_another_pattern_can_name_the_recording():
    names = ["a/p01_deep", "b/p01_arms", "a/p02_deep", "a/other"]
    assert together(names, pattern=r".*/(p\d+)_.*") == [["a/p01_deep", "b/p01_arms"]]


def test_a_copy_stays_with_its_recording_under_a_pattern_that_matches_one_of_them_only():
    names = ["a/p01_deep", "b/p01_flip", "b/p01"]
    assert together(names, pattern=r".*/(p\d+)_.*") == [["a/p01_deep", "b/p01", "b/p01_flip"]]


def test_clips_that_are_known_to_be_the_same_are_one_recording_whatever_their_names():
    found = recordings_of(
        ["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4"], same=[["a/1.mp4", "b/3.mp4", "gone.mp4"], ["x"]]
    ).by_clip
    assert found["a/1.mp4"] == found["b/3.mp4"]
    assert len(set(found.values())) == 3


def test_the_suffix_does_not_part_a_clip_from_its_copy():
    found = recordings_of(["dataset/a/IMG_1.MOV", "dataset/a/IMG_1_flip.mp4"]).by_clip
    assert len(set(found.values())) == 1


@pytest.mark.parametrize(("pattern", "part"), [("(", "annotations.recording_pattern '('"), (r".*/\d+", "has no group")])
def test_a_pattern_without_a_group_is_refused(pattern, part):
    with pytest.raises(InputError) as error:
        recordings_of(["dataset/a/1.mp4"], pattern)
    assert part in str(error.value)


def test_recordings_and_workers_join_in_chains():
    recordings = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "4", "f": "5"}
    assert groups_of(recordings, {"b": "w", "c": "w", "d": "v", "x": "v"}) == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    # a recording and a worker of the same name are two things
    assert groups_of({"a": "1", "b": "2"}, {"b": "1"}) == [["a"], ["b"]]


CLIPS = [Clip(f"dataset/{exercise}/{i}.mp4", exercise) for exercise, i in (("a", 1), ("a", 2), ("b", 3), ("b", "3_1"))]


def test_workers_are_read_for_the_clips_that_have_one(write):
    entries = [
        {"video_path": "./1.mp4", "worker_id": 7},
        {"video_path": "a/2.mp4", "worker_id": None},
        {"video_path": "short_clips/3.mp4", "worker_id": "7"},
        {"video_path": "./99.mp4", "worker_id": 8},
    ]
    path = write("dataset/workers.json", entries)
    workers = read_workers(path, CLIPS, "dataset")
    assert workers == {"dataset/a/1.mp4": "7", "dataset/b/3.mp4": "7", "dataset/b/3_1.mp4": "7"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"1.mp4": 3}, "contains a dict"),
        ([{"worker_id": 3}], "entry 1: has no video_path"),
        ([{"video_path": "1.mp4", "worker_id": [3]}], "entry 1: the worker_id is a list"),
        ([{"video_path": "1.mp4", "worker_id": n} for n in (3, 4)], "entry 2"),
    ],
)
def test_malformed_workers_are_refused_with_the_entry(write, content, part):
    path = write("dataset/workers.json", content)
    with pytest.raises(InputError) as error:
        read_workers(path, CLIPS, "dataset")
    assert part in str(error.value) and "workers.json" in str(error.value)
