import logging
import unicodedata

import pytest

from mobilevideogpt.annotations.labels import (
    BY_NAME,
    DUPLICATES,
    FROM_LABELS,
    FROM_RECORDING,
    HALF_QUESTIONS,
    OTHER_EXERCISE,
    WITHOUT_ANSWER,
    WITHOUT_CLIP,
    join_records,
    read_records,
)
from mobilevideogpt.annotations.manifest import Clip, Findings
from mobilevideogpt.errors import InputError

FILE = "dataset/fine_grained_labels.json"


def clips(*names):
    return [Clip(f"dataset/{name}", name.split("/")[0]) for name in names]


def answers(matched):
    return {path.removeprefix("dataset/"): record.turns[0][1] for path, record in matched.by_clip.items()}


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
    "path",
    ["./1.mp4", "1.mp4", "./short_clips/1.mp4", "dataset/squats/1.mp4", "squats\\1.mp4", "1", "1.MP4", "squats/1.mov"],
)
def test_the_answer_is_descriptive_where_it_can_be_however_the_path_is_written(write, entry, answer, path):
    write(FILE, [{"video_path": path, "split": "train", **entry}])
    assert answers(join_records(clips("squats/1.mp4"), read_records(FILE, "dataset"))) == {"squats/1.mp4": answer}


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
    assert answers(join_records(clips("squats/1.mp4"), read_records(FILE, "dataset"))) == {"squats/1.mp4": "squats - a"}


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
    matched = join_records(clips("lunges/1.mp4", "squats/1.mp4", "squats/2.mp4"), read_records(FILE, "dataset"))
    assert answers(matched) == {
        "lunges/1.mp4": "lunges - a",
        "squats/1.mp4": "squats - a",
        "squats/2.mp4": "squats - b",
    }
    assert matched.by_path == 2
    assert {reason: items for reason, items in matched.findings.items() if items} == {
        BY_NAME: ["dataset/squats/2.mp4"],
        DUPLICATES: [f"2.mp4 ({FILE}, record 4)"],
        WITHOUT_CLIP: [f"3.mp4 ({FILE}, record 5)"],
        FROM_LABELS: ["dataset/lunges/1.mp4", "dataset/squats/1.mp4", "dataset/squats/2.mp4"],
    }


def test_an_augmented_clip_takes_the_label_of_its_recording_and_that_is_said(write, caplog):
    write(FILE, [{"video_path": "./1.mp4", "labels": "squats - a"}])
    with caplog.at_level(logging.WARNING):
        matched = join_records(
            clips("squats/1.mp4", "squats/1_1.mp4", "squats/1_14.mp4"), read_records(FILE, "dataset")
        )
    assert answers(matched)["squats/1_14.mp4"] == "squats - a"
    assert matched.findings[FROM_RECORDING] == ["dataset/squats/1_1.mp4", "dataset/squats/1_14.mp4"]
    assert "2 augmented clips" in caplog.text


def test_names_are_compared_composed(write):
    write(FILE, [{"video_path": unicodedata.normalize("NFD", "größe.mp4"), "labels": "squats - a"}])
    matched = join_records(clips(unicodedata.normalize("NFC", "squats/größe.mp4")), read_records(FILE, "dataset"))
    assert len(matched.findings[BY_NAME]) == 1


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
            [
                {"video_path": "lunges/1.mp4", "labels": "a"},
                {"video_path": "squats/1.mp4", "labels": "a", "split": "train"},
                {"video_path": "dataset/squats/1.mp4", "labels": "a", "split": "test"},
            ],
            ["dataset/squats/1.mp4", "record 2", "record 3", "different splits, train and test", "delete one"],
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
        join_records(clips("lunges/1.mp4", "squats/1.mp4"), read_records(FILE, "dataset"))
    for part in parts:
        assert part in str(error.value)


def test_only_the_first_ten_clips_without_label_are_listed(write):
    write(FILE, [{"video_path": "x.mp4", "labels": "a"}])
    with pytest.raises(InputError, match=r"12 of 12 clips have no label: .*\.\.\.") as error:
        join_records(clips(*(f"squats/{i}.mp4" for i in range(12))), read_records(FILE, "dataset"))
    assert str(error.value).count("squats/") == 10
    assert "there is no clip for x.mp4 (dataset/" in str(error.value), "what may be a mistyped name"


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
        ([{"video_path": "1.mp4", "labels": "a <video> b"}], "record 1: labels holds <video>", "expected"),
        ('[{"video_path": "1.mp4", "labels": "\\ud800"}]', "record 1: labels holds half a character", "expected"),
        ([None], "record 1: is a NoneType", "expected"),
        ('{"1.mp4": "a", "1.mp4": "b"}', "'1.mp4' stands twice", "write it anew"),
        ('[{"video_path": "1.mp4", "labels": "a", "labels": "b"}]', "'labels' stands twice", "write it anew"),
        ("[" + "1" * 5000 + "]", "not valid JSON", "write it anew"),
        ("[" * 100_000, "not valid JSON", "write it anew"),
        ([{"video_path": "../1.mp4", "labels": "a"}], "record 1: '../1.mp4'", "copy the clip there"),
        ({"/1.mp4": "a"}, "/1.mp4", "copy the clip there"),
    ],
)
def test_a_bad_label_file_is_refused_with_file_record_and_remedy(write, content, record, remedy):
    write(FILE, content)
    with pytest.raises(InputError) as error:
        read_records(FILE, "dataset")
    for part in (FILE, record, remedy):
        assert part in str(error.value)


def test_a_missing_label_file_names_the_remedy(project):
    with pytest.raises(InputError, match=r"fine_grained_labels\.json: there is no such file; put the file there"):
        read_records(FILE, "dataset")


def test_a_key_may_stand_twice_if_it_says_the_same(write):
    write(FILE, '\ufeff{"1.mp4": "squats - a", "1.mp4": "squats - a"}')
    assert answers(join_records(clips("squats/1.mp4"), read_records(FILE, "dataset"))) == {"squats/1.mp4": "squats - a"}


def test_a_split_is_read_however_it_is_spelled_and_none_is_passed_over(write):
    values = [" Train", "TEST", "", None, 3, ["train"]]
    write(FILE, [{"video_path": f"{i}.mp4", "labels": "a", "split": value} for i, value in enumerate(values)])
    found = [record.split for record in read_records(FILE, "dataset")]
    assert found == ["train", "test", None, None, "3", "['train']"]


def test_a_label_of_another_exercise_is_noticed(write, caplog):
    labels = {"1": "Cat-Cow  Pose - fine", "2": "squats - a", "3": "holding still"}
    write(FILE, labels)
    matched = join_records(clips("cat-cow_pose/1.mp4", "lunges/2.mp4", "lunges/3.mp4"), read_records(FILE, "dataset"))
    assert matched.findings[OTHER_EXERCISE] == [
        "dataset/lunges/2.mp4 (squats - a)",
        "dataset/lunges/3.mp4 (holding still)",
    ]
    assert "2 clips whose label begins with another exercise" in caplog.text


FEEDBACKS = "dataset/feedbacks_short_clips.json"
QUESTIONS = "dataset/questions.json"


def asked(query, response, **more):
    return {"query": query, "response": response, "query_type": ["x"] * len(query), **more}


@pytest.mark.parametrize(
    ("source", "entry", "turns"),
    [
        ("feedbacks", {"feedbacks": ["Go deeper.", " Good! "]}, ((None, "Go deeper. Good!"),)),
        ("feedbacks", {"feedback": "Go deeper."}, ((None, "Go deeper."),)),
        (
            "questions",
            {"high_level": asked(["Which?"], ["Squats."]), "fine_grain": asked(["Deep?", "Fast?"], ["Yes.", "No."])},
            (("Which?", "Squats."), ("Deep?", "Yes."), ("Fast?", "No.")),
        ),
        ("questions", {"fine_grain": {"query": "Deep?", "response": "Yes."}}, (("Deep?", "Yes."),)),
        (
            "questions",
            {"high_level": asked(["Q"], ["A"]), "fine_grain": asked(["Q", "Q"], ["A", "B"])},
            (("Q", "A"), ("Q", "B")),
        ),
    ],
)
def test_feedbacks_and_questions_are_read_as_qevd_writes_them(write, source, entry, turns):
    write(QUESTIONS, [{"video_path": "./1.mp4", "split": "test", **entry}])
    [record] = read_records(QUESTIONS, "dataset", source)
    assert (record.path, record.split, record.turns) == ("1.mp4", "test", turns)


def test_a_clip_without_feedback_is_left_out_and_listed(write, caplog):
    write(FEEDBACKS, [{"video_path": "1.mp4", "feedbacks": []}, {"video_path": "2.mp4", "feedbacks": ["Go."]}])
    records = read_records(FEEDBACKS, "dataset", "feedbacks")
    matched = join_records(clips("squats/1.mp4", "squats/2.mp4", "squats/3.mp4"), records, "feedbacks")
    assert answers(matched) == {"squats/2.mp4": "Go."}
    assert matched.findings[WITHOUT_ANSWER] == [
        "dataset/squats/3.mp4 (no record)",
        f"dataset/squats/1.mp4 ({FEEDBACKS}, record 1 is empty)",
    ]
    with pytest.raises(InputError, match=r"2 of 2 clips have no answer: .*annotations\.source feedbacks"):
        join_records(clips("squats/1.mp4", "squats/3.mp4"), records, "feedbacks")
    assert "clips are left out, for which there is no answer" in caplog.text


def test_half_a_question_is_left_out_and_listed(write):
    write(QUESTIONS, [{"video_path": "1.mp4", "high_level": asked(["Q", " ", "R"], ["", "A", "B"])}])
    findings = Findings(list)
    [record] = read_records(QUESTIONS, "dataset", "questions", findings)
    assert record.turns == (("R", "B"),)
    assert findings == {HALF_QUESTIONS: [f"{QUESTIONS}, record 1, high_level"] * 2}


@pytest.mark.parametrize(
    ("source", "entry", "part"),
    [
        ("feedbacks", {"feedbacks": [3]}, "record 1: feedbacks is neither"),
        ("questions", {"high_level": ["Q", "A"]}, "record 1: high_level is a list"),
        ("questions", {"fine_grain": asked(["Q", "R"], ["A"])}, "record 1: fine_grain holds 2 queries and 1 responses"),
        ("questions", {"fine_grain": asked(["Q"], [None])}, "record 1: fine_grain.response is neither"),
        ("questions", {"fine_grain": asked(["<video>\nQ"], ["A"])}, "record 1: fine_grain.query holds <video>"),
    ],
)
def test_malformed_feedbacks_and_questions_are_refused(write, source, entry, part):
    write(QUESTIONS, [{"video_path": "1.mp4", **entry}])
    with pytest.raises(InputError) as error:
        read_records(QUESTIONS, "dataset", source)
    assert f"{QUESTIONS}, {part}" in str(error.value)
