import pytest

from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.errors import InputError

FILE = "dataset/fine_grained_labels.json"
QUESTIONS = "dataset/questions.json"


@pytest.mark.parametrize(
    ("content", "entry", "remedy"),
    [
        ("[", "not valid JSON", "write it again"),
        (3, "int", "expected"),
        ([], "no entry", "expected"),
        ([{"video_path": "1.mp4", "labels": "a"}, "x"], "entry 2", "expected"),
        ([{"labels": "a"}], "entry 1: has no video_path", "expected"),
        ([{"video_path": 1, "labels": "a"}], "entry 1", "expected"),
        ([{"video_path": "1.mp4", "labels": 3}], "entry 1: labels", "expected"),
        ([{"video_path": "1.mp4", "labels": [3]}], "entry 1: labels", "expected"),
        ([{"video_path": "1.mp4", "labels_descriptive": {}}], "labels_descriptive", "expected"),
        ([{"video_path": "1.mp4", "labels": "a <video> b"}], "entry 1: labels contains <video>", "expected"),
        ('[{"video_path": "1.mp4", "labels": "\\ud800"}]', "entry 1: labels contains half a character", "expected"),
        ([None], "entry 1: is a NoneType", "expected"),
        ('{"1.mp4": "a", "1.mp4": "b"}', "'1.mp4' occurs twice", "write it again"),
        ('[{"video_path": "1.mp4", "labels": "a", "labels": "b"}]', "'labels' occurs twice", "write it again"),
        ("[" + "1" * 5000 + "]", "not valid JSON", "write it again"),
        ("[" * 100_000, "not valid JSON", "write it again"),
        ([{"video_path": "a/../../1.mp4", "labels": "a"}], "entry 1: '../1.mp4'", "copy the clip there"),
        ({"/": "a"}, "entry '/'", "not a usable path"),
    ],
)
def test_a_bad_label_file_is_refused_with_file_entry_and_remedy(write, content, entry, remedy):
    write(FILE, content)
    with pytest.raises(InputError) as error:
        read_labels(FILE, "dataset")
    for part in (FILE, entry, remedy):
        assert part in str(error.value)


def test_a_missing_label_file_names_the_remedy(project):
    with pytest.raises(InputError, match=r"fine_grained_labels\.json: there is no such file; put the file there"):
        read_labels(FILE, "dataset")


def test_a_key_may_occur_twice_with_the_same_value(write):
    write(FILE, '\ufeff{"1.mp4": "squats - a", "1.mp4": "squats - a"}')
    [label] = read_labels(FILE, "dataset")
    assert (label.path, label.text) == ("1.mp4", "squats - a")


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"squats/1.mp4": {"labels": ["squats - a"]}}, "squats/1.mp4"),
        ({"1.mp4": "squats - a"}, "1.mp4"),
        ({"1": ["squats - a"]}, "1"),
        ({"anything": {"video_path": "1.mp4", "labels": "squats - a"}}, "1.mp4"),
    ],
)
def test_entries_may_be_keyed_by_clip(write, content, path):
    write(FILE, content)
    [label] = read_labels(FILE, "dataset")
    assert (label.path, label.text) == (path, "squats - a")


def test_a_split_is_read_however_it_is_spelled(write):
    values = [" Train", "TEST", "", None, 3, ["train"]]
    write(FILE, [{"video_path": f"{i}.mp4", "labels": "a", "split": value} for i, value in enumerate(values)])
    found = [label.split for label in read_labels(FILE, "dataset")]
    assert found == ["train", "test", None, None, "3", "['train']"]


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
    [label] = read_labels(QUESTIONS, "dataset", source)
    assert (label.path, label.split, label.turns) == ("1.mp4", "test", turns)


def test_a_question_without_an_answer_is_left_out_and_listed(write):
    write(QUESTIONS, [{"video_path": "1.mp4", "high_level": asked(["Q", " ", "R"], ["", "A", "B"])}])
    findings = Findings()
    [label] = read_labels(QUESTIONS, "dataset", "questions", findings)
    assert label.turns == (("R", "B"),)
    assert findings.items(Code.INCOMPLETE_QUESTION) == [f"{QUESTIONS}, entry 1, high_level"] * 2


@pytest.mark.parametrize(
    ("source", "entry", "part"),
    [
        ("feedbacks", {"feedbacks": [3]}, "entry 1: feedbacks is neither"),
        ("questions", {"high_level": ["Q", "A"]}, "entry 1: high_level is a list"),
        ("questions", {"fine_grain": asked(["Q", "R"], ["A"])}, "entry 1: fine_grain has 2 queries, but 1 responses"),
        ("questions", {"fine_grain": asked(["Q"], [None])}, "entry 1: fine_grain.response is neither"),
        ("questions", {"fine_grain": asked(["<video>\nQ"], ["A"])}, "entry 1: fine_grain.query contains <video>"),
    ],
)
def test_malformed_feedbacks_and_questions_are_refused(write, source, entry, part):
    write(QUESTIONS, [{"video_path": "1.mp4", **entry}])
    with pytest.raises(InputError) as error:
        read_labels(QUESTIONS, "dataset", source)
    assert f"{QUESTIONS}, {part}" in str(error.value)
