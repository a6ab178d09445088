from pathlib import Path

import pytest

from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.labels import find_label_file, read_labels
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


CSV = "dataset/labels.csv"


def test_a_table_of_labels_is_read_whatever_a_spreadsheet_made_of_it(write):
    lines = ["Video ,Label", 'squats/1.mp4,"squats - deep, but slow"', "", " squats/2.mp4 , squats - good "]
    for text in ("\n".join(lines), "\r\n".join(lines) + "\r\n", "\ufeff" + "\n".join(lines)):
        write(CSV, text)
        first, second = read_labels(CSV, "dataset")
        assert (first.path, first.text) == ("squats/1.mp4", "squats - deep, but slow")
        assert (second.path, second.text, second.turns) == ("squats/2.mp4", "squats - good", ((None, "squats - good"),))
        assert second.origin == f"{CSV}, line 4" and second.split is None and second.segment is None
    write(CSV, "video;label;split;start;end\nsession.mp4;squats - good, slow;Train;0,5;2.5\nb.mp4;squats - bad;;;\n")
    first, second = read_labels(CSV, "dataset")
    assert (first.text, first.split, first.segment) == ("squats - good, slow", "train", (0.5, 2.5))
    assert (second.split, second.segment) == (None, None)


def test_with_a_column_of_exercises_the_answer_begins_with_the_exercise_once(write):
    rows = ["1.mp4,push_ups,hips sag", "2.mp4,push_ups,Push ups - hips sag", "3.mp4,push_ups,", "4.mp4,,Go deeper."]
    write(CSV, "\n".join(["video,exercise,label", *rows]))
    labels = read_labels(CSV, "dataset")
    assert [label.text for label in labels] == ["push ups - hips sag", "Push ups - hips sag", "", "Go deeper."]
    assert not labels[2].turns


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the first line is ''; write a header `video,label`"),
        ("clip,text\na.mp4,b\n", r"the first line is 'clip,text'; write a header `video,label`"),
        ("squats/1.mp4,squats - good\n", "write a header"),
        ("video,label\n\n", "no line below the header"),
        ("video,label,label\na.mp4,b,c\n", "two columns label"),
        ("video,label\na.mp4,deep, slow\n", "line 2: has more cells than the header; put a text .* in quotes"),
        ("video,label\n,deep\n", "line 2: has no video_path"),
        ("video,label,start,end\na.mp4,b,x,2\n", "line 2, start: 'x' is not a number"),
        ("video,label,start\na.mp4,b,2\n", "line 2: start 2.0 and end None are no segment"),
        ("video,label\na.mp4,b\na/../../x.mp4,c\n", "line 3: .* leaves the data set's folder"),
        ('video,label\na.mp4,"b <video> c"\n', "line 2: labels contains <video>"),
    ],
)
def test_a_bad_table_is_refused_with_file_line_and_remedy(write, content, message):
    write(CSV, content)
    with pytest.raises(InputError, match=rf"^dataset/labels\.csv.*{message}"):
        read_labels(CSV, "dataset")


def test_a_table_that_is_not_utf_8_is_named_with_its_remedy(project):
    Path(CSV).write_bytes("video,label\n1.mp4,Sprünge\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"labels\.csv: is not UTF-8 text .*; save it as CSV in UTF-8"):
        read_labels(CSV, "dataset")


def test_where_there_are_no_labels_the_error_says_the_format_and_that_a_table_was_seen(write):
    write("dataset/splits.csv", "")
    write("dataset/my labels.csv", "")
    with pytest.raises(InputError) as error:
        find_label_file("dataset", "labels")
    for part in (
        "there is no dataset/ground_truth.json or dataset/fine_grained_labels.json or dataset/labels.csv (dataset/my "
        "labels.csv is there: if it has the labels, rename it to labels.csv)",
        "`snakemake manifest` writes dataset/labels.csv with every clip",
        "a header `video,label`, then a line for each clip such as `squats/0001.mp4,squats - knees in`",
        "annotations.source: folders",
    ):
        assert part in str(error.value)
    with pytest.raises(
        InputError, match=r"no dataset/questions\.json; add it, with entries such as \{.*annotations.source"
    ):
        find_label_file("dataset", "questions")
    write("dataset/labels.csv", "")
    assert find_label_file("dataset", "labels") == "dataset/labels.csv"
    write("dataset/ground_truth.json", "")
    assert find_label_file("dataset", "labels") == "dataset/ground_truth.json"
