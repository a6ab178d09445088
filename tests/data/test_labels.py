import logging
import unicodedata

import pytest

from mobilevideogpt.data.labels import join_labels, read_labels
from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.errors import InputError

FILE = "dataset/fine_grained_labels.json"


def clips(*names):
    return [Clip(f"dataset/{name}", name.split("/")[0]) for name in names]


def answers(matched):
    return {path.removeprefix("dataset/"): record.answer for path, record in matched.by_clip.items()}


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        ({"labels": ["squats - a"]}, "squats - a"),
        ({"labels": "squats - a"}, "squats - a"),
        ({"labels": ["squats - a", "squats - b"]}, "squats - a; squats - b"),
        ({"labels": ["squats - a"], "labels_descriptive": ["squats - User does a"]}, "squats - User does a"),
        ({"labels": ["squats - a"], "labels_descriptive": "Sentence."}, "Sentence."),
        ({"labels": ["squats - a"], "labels_descriptive": []}, "squats - a"),
        ({"labels": ["squats - a"], "labels_descriptive": [" "]}, "squats - a"),
        ({"labels": ["squats - a"], "labels_descriptive": None}, "squats - a"),
        ({"labels_descriptive": "Sentence."}, "Sentence."),
    ],
)
@pytest.mark.parametrize(
    "path", ["./1.mp4", "1.mp4", "short_clips/1.mp4", "dataset/squats/1.mp4", "squats\\1.mp4", "1"]
)
def test_the_answer_is_descriptive_where_it_can_be_however_the_path_is_written(write, entry, answer, path):
    write(FILE, [{"video_path": path, "split": "train", **entry}])
    assert answers(join_labels(clips("squats/1.mp4"), read_labels(FILE, "dataset"))) == {"squats/1.mp4": answer}


@pytest.mark.parametrize(
    "content",
    [
        {"squats/1.mp4": {"labels": ["squats - a"]}},
        {"1.mp4": "squats - a"},
        {"1": ["squats - a"]},
        {"anything": {"video_path": "1.mp4", "labels": "squats - a"}},
    ],
)
def test_records_may_be_keyed_by_clip(write, content):
    write(FILE, content)
    assert answers(join_labels(clips("squats/1.mp4"), read_labels(FILE, "dataset"))) == {"squats/1.mp4": "squats - a"}


def test_a_path_goes_before_a_name_and_the_ways_are_counted(write):
    write(
        FILE,
        [
            {"video_path": "squats/1.mp4", "labels": "squats - a"},
            {"video_path": "lunges/1.mp4", "labels": "lunges - a"},
            {"video_path": "./2.mp4", "labels": "squats - b"},
            {"video_path": "./2.mp4", "labels": "squats - b"},
            {"video_path": "./3.mp4", "labels": "squats - c"},
        ],
    )
    matched = join_labels(clips("lunges/1.mp4", "squats/1.mp4", "squats/2.mp4"), read_labels(FILE, "dataset"))
    assert answers(matched) == {
        "lunges/1.mp4": "lunges - a",
        "squats/1.mp4": "squats - a",
        "squats/2.mp4": "squats - b",
    }
    counts = dict(matched.counts)
    assert (counts["by_path"], counts["by_name"], counts["duplicate_records"]) == (2, 1, 1)
    assert counts["labels_without_clip"] == 1


def test_an_augmented_clip_takes_the_label_of_its_recording_and_that_is_said(write, caplog):
    write(FILE, [{"video_path": "./1.mp4", "labels": "squats - a"}])
    with caplog.at_level(logging.WARNING):
        matched = join_labels(clips("squats/1.mp4", "squats/1_1.mp4", "squats/1_14.mp4"), read_labels(FILE, "dataset"))
    assert answers(matched)["squats/1_14.mp4"] == "squats - a"
    assert matched.counts["augmented_from_recording"] == 2
    assert "2 augmented clips" in caplog.text


def test_names_are_compared_composed(write):
    write(FILE, [{"video_path": unicodedata.normalize("NFD", "größe.mp4"), "labels": "squats - a"}])
    matched = join_labels(clips(unicodedata.normalize("NFC", "squats/größe.mp4")), read_labels(FILE, "dataset"))
    assert matched.counts["by_name"] == 1


@pytest.mark.parametrize(
    ("records", "parts"),
    [
        (
            [{"video_path": "1.mp4", "labels": "a"}],
            ["record 1", "dataset/lunges/1.mp4 and dataset/squats/1.mp4", "folder in front"],
        ),
        ([{"video_path": "lunges/1.mp4", "labels": "a"}], ["1 of 2 clips", "dataset/squats/1.mp4", "dataset.exclude"]),
        (
            [
                {"video_path": "lunges/1.mp4", "labels": "a"},
                {"video_path": "squats/1.mp4", "labels": "a"},
                {"video_path": "dataset/squats/1.mp4", "labels": "b"},
            ],
            ["dataset/squats/1.mp4", "record 2", "record 3", "delete one"],
        ),
        (
            [{"video_path": "lunges/1.mp4", "labels": "a"}, {"video_path": "squats/1.mp4", "labels": []}],
            ["dataset/squats/1.mp4", "record 2 is empty", "dataset.exclude"],
        ),
    ],
)
def test_labels_that_do_not_settle_every_clip_are_refused(write, records, parts):
    write(FILE, records)
    with pytest.raises(InputError) as error:
        join_labels(clips("lunges/1.mp4", "squats/1.mp4"), read_labels(FILE, "dataset"))
    for part in parts:
        assert part in str(error.value)


def test_only_the_first_ten_clips_without_label_are_listed(write):
    write(FILE, [{"video_path": "x.mp4", "labels": "a"}])
    with pytest.raises(InputError, match=r"12 of 12 clips have no label: .*\.\.\.") as error:
        join_labels(clips(*(f"squats/{i}.mp4" for i in range(12))), read_labels(FILE, "dataset"))
    assert str(error.value).count(".mp4") == 10


@pytest.mark.parametrize(
    ("content", "record", "remedy"),
    [
        ("[", "not valid JSON", "write it anew"),
        (3, "int", "expected"),
        ([], "no record", "expected"),
        ([{"video_path": "1.mp4", "labels": "a"}, "x"], "record 2", "expected"),
        ([{"labels": "a"}], "record 1: has no video_path", "expected"),
        ([{"video_path": 1, "labels": "a"}], "record 1", "expected"),
        ([{"video_path": "1.mp4", "labels": 3}], "record 1: labels", "expected"),
        ([{"video_path": "1.mp4", "labels": [3]}], "record 1: labels", "expected"),
        ([{"video_path": "1.mp4", "labels_descriptive": {}}], "labels_descriptive", "expected"),
        ([{"video_path": "../1.mp4", "labels": "a"}], "record 1: '../1.mp4'", "copy the clip there"),
        ({"/1.mp4": "a"}, "/1.mp4", "copy the clip there"),
    ],
)
def test_a_bad_label_file_is_refused_with_file_record_and_remedy(write, content, record, remedy):
    write(FILE, content)
    with pytest.raises(InputError) as error:
        read_labels(FILE, "dataset")
    for part in (FILE, record, remedy):
        assert part in str(error.value)


def test_a_missing_label_file_names_the_remedy(project):
    with pytest.raises(InputError, match=r"fine_grained_labels\.json: there is no such file; put the label file there"):
        read_labels(FILE, "dataset")
