import json
import logging
import time
import unicodedata
from pathlib import Path

import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.join import ground_truth, join_labels, match_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.errors import InputError

FILE = "dataset/fine_grained_labels.json"
FEEDBACKS = "dataset/feedbacks_short_clips.json"


def clips(*names):
    return [Clip(f"dataset/{name}", name.split("/")[0]) for name in names]


def answers(matched):
    return {path.removeprefix("dataset/"): label.turns[0][1] for path, label in matched.by_clip.items()}


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
def test_the_answer_is_the_description_if_there_is_one_however_the_path_is_spelled(write, entry, answer, path):
    write(FILE, [{"video_path": path, "split": "train", **entry}])
    assert answers(join_labels(clips("squats/1.mp4"), read_labels(FILE, "dataset"))) == {"squats/1.mp4": answer}


def test_a_path_goes_before_a_name_and_the_findings_list_the_rest(write):
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
    findings = Findings()
    every = clips("lunges/1.mp4", "squats/1.mp4", "squats/2.mp4")
    matched = join_labels(every, read_labels(FILE, "dataset"), findings=findings)
    assert answers(matched) == {
        "lunges/1.mp4": "lunges - a",
        "squats/1.mp4": "squats - a",
        "squats/2.mp4": "squats - b",
    }
    assert matched.by_path == 2
    assert {row["code"]: row["items"] for row in findings.summary()} == {
        Code.MATCHED_BY_NAME: ["dataset/squats/2.mp4"],
        Code.DUPLICATE_LABEL: [f"2.mp4 ({FILE}, entry 4)"],
        Code.LABEL_WITHOUT_CLIP: [f"3.mp4 ({FILE}, entry 5)"],
        Code.BARE_LABEL: ["dataset/lunges/1.mp4", "dataset/squats/1.mp4", "dataset/squats/2.mp4"],
    }


def test_an_augmented_clip_uses_the_label_of_its_recording_with_a_warning(write, caplog):
    write(FILE, [{"video_path": "./1.mp4", "labels": "squats - a"}])
    findings = Findings()
    every = clips("squats/1.mp4", "squats/1_1.mp4", "squats/1_14.mp4")
    matched = join_labels(every, read_labels(FILE, "dataset"), findings=findings)
    assert answers(matched)["squats/1_14.mp4"] == "squats - a"
    assert findings.items(Code.LABEL_OF_RECORDING) == ["dataset/squats/1_1.mp4", "dataset/squats/1_14.mp4"]
    with caplog.at_level(logging.WARNING):
        findings.log()
    assert "2 augmented clips" in caplog.text


@pytest.mark.parametrize(
    ("names", "written", "expected"),
    [
        (["a/rep1.mp4", "a/rep1.mov"], ["./rep1.mp4", "./rep1.mov"], {"a/rep1.mp4": 0, "a/rep1.mov": 1}),
        (["a/rep1.mp4", "a/rep1.mov"], ["a/rep1.mov", "rep1.mp4"], {"a/rep1.mp4": 1, "a/rep1.mov": 0}),
        (["a/rep1.mp4", "a/rep1.mov"], ["./rep1.mp4"], {"a/rep1.mp4": 0}),  # no label for another file
        (["a/rep1.mp4", "a/rep1.mov"], ["rep1"], {}),
        (["a/rep1.mov", "b/rep1.avi"], ["./rep1.mp4"], {}),
        (["a/rep1.mov"], ["./rep1.mp4", "./rep1.mov"], {"a/rep1.mov": 1}),
        (["a/rep1.mov"], ["./rep1.mp4", "./rep1.avi"], {}),  # two guesses
        (["a/rep1.mov", "b/rep1.mov"], ["b/rep1.mp4"], {"b/rep1.mov": 0}),
        (["a/1.mp4", "p/a/1.mp4"], ["a/1.mp4"], {"a/1.mp4": 0}),  # was given to both
        (["a/1.mp4", "p/a/1.mp4"], ["p/a/1.mp4", "a/1.mp4"], {"a/1.mp4": 1, "p/a/1.mp4": 0}),
        (["a/1.mp4", "a/1.MP4"], ["a/1.MP4", "a/1.mp4"], {"a/1.mp4": 1, "a/1.MP4": 0}),
        (["a/1.mp4"], ["b/a/1.mp4", "A/1.mp4"], {"a/1.mp4": 1}),  # written with other folders in front, or without
    ],
)
def test_a_label_is_that_of_the_file_it_names(write, names, written, expected):
    write(FILE, [{"video_path": path, "labels": f"a - {i}"} for i, path in enumerate(written)])
    matched = match_labels(clips(*names), read_labels(FILE, "dataset"))
    assert answers(matched) == {name: f"a - {i}" for name, i in expected.items()}
    assert sorted(matched.missing) == sorted(f"dataset/{name}" for name in {*names} - expected.keys())
    assert len(matched.unused) == len(written) - len(expected)


def test_a_label_that_names_another_suffix_is_a_guess_with_a_warning(write, caplog):
    write(FILE, {"./1.mp4": "squats - a", "squats/2.wmv": "squats - b", "3": "squats - c"})
    findings = Findings()
    matched = join_labels(
        clips("squats/1.mov", "squats/2.mp4", "squats/3.mp4"), read_labels(FILE, "dataset"), findings=findings
    )
    assert len(matched.by_clip) == 3
    assert findings.items(Code.OTHER_SUFFIX) == ["dataset/squats/1.mov (1.mp4)", "dataset/squats/2.mp4 (squats/2.wmv)"]
    findings.log()
    assert "2 clips whose label, in parentheses, names a file of another suffix" in caplog.text


@pytest.mark.parametrize(
    ("name", "written", "by_path"),
    [
        ("squats/IMG_0012.MOV", "IMG_0012.mov", False),
        ("squats/IMG_0012.MOV", "./squats/img_0012.MOV", True),
        ("squats/VID 20240101 (2).mp4", "VID%2020240101%20(2).mp4", False),
        ("squats/VID 20240101 (2).mp4", "squats/VID_20240101_(2).mp4", True),
        ("push_ups/1.mp4", "push ups/1.mp4", True),
        ("push ups/1.mp4", "Push_Ups/1.MP4", True),
        ("push_ups/1.mp4", "dataset\\push%20ups\\1.mp4", True),
        ("squats/1.mp4", "C:\\Users\\me\\clips\\squats\\1.mp4", True),
        ("squats/1.mp4", "/home/me/project/dataset/squats/1.mp4", True),
        ("squats/1.mp4", "file:///home/me/squats/1.mp4", True),
        ("squats/1.mp4", "../squats/1.mp4", True),
        ("squats/1.mp4", "/content/drive/1.mp4", False),
        ("ku\u0308r/1.mp4", "k\u00fcr/1.mp4", True),
        ("k\u00fcr/\u00dcn\u00efcode.mp4", "U\u0308ni\u0308code.mp4", False),
    ],
)
def test_names_join_as_phones_browsers_and_scripts_write_them(write, name, written, by_path):
    write(FILE, [{"video_path": written, "labels": "a - b"}, {"video_path": "lunges/7.mp4", "labels": "a - c"}])
    findings = Findings()
    matched = match_labels(clips(name, "lunges/7.mp4"), read_labels(FILE, "dataset"), findings)
    assert answers(matched) == {name: "a - b", "lunges/7.mp4": "a - c"}
    assert matched.by_path == 1 + by_path
    assert not findings.items(Code.OTHER_SUFFIX)


def test_a_name_that_is_written_otherwise_is_listed_and_one_written_the_same_goes_first(write):
    write(FILE, {"Squats/1.MP4": "a - b", "squats/2.mp4": "a - c", "SQUATS/2.mp4": "a - d"})
    findings = Findings()
    matched = match_labels(clips("squats/1.mp4", "squats/2.mp4"), read_labels(FILE, "dataset"), findings)
    assert answers(matched) == {"squats/1.mp4": "a - b", "squats/2.mp4": "a - c"}
    assert findings.items(Code.OTHER_SPELLING) == ["dataset/squats/1.mp4 (Squats/1.MP4)"]


@pytest.mark.parametrize("written", ["/data/squats/1.mp4", "C:\\squats\\1.mp4", "SQUATS/1.mp4", "x/squats/1.mp4"])
def test_a_label_of_another_folder_is_not_matched_by_name_however_it_is_written(write, written):
    write(FILE, {written: "squats - a"})
    matched = match_labels(clips("lunges/1.mp4", "squats/2.mp4"), read_labels(FILE, "dataset"))
    assert not matched.by_clip and len(matched.unused) == 1


def test_of_many_labels_the_error_shows_the_most_similar_name_in_bounded_time(write):
    names = [f"clip_{i:06d}_{'abcdefgh'[i % 8]}.mp4" for i in range(30_000)]
    write(FILE, dict.fromkeys(["sqats_anna_01.mp4", *names], "a - b"))
    every = clips(*(f"a/{name}" for name in ["squats_anna_01.mp4", *(f"no {i}.mp4" for i in range(9))]))
    labels = read_labels(FILE, "dataset")
    started = time.process_time()
    with pytest.raises(InputError, match=r"'sqats_anna_01\.mp4' for dataset/a/squats_anna_01\.mp4"):
        join_labels(every, labels)
    assert time.process_time() - started < 2


def test_many_clips_of_one_name_are_matched_in_bounded_time(write):
    names = [f"{person}/squats/1.mp4" for person in range(4000)]
    write(FILE, {name: f"squats - {i}" for i, name in enumerate(names)} | {f"x{i}/1.mp4": "a" for i in range(4000)})
    labels = read_labels(FILE, "dataset")
    started = time.process_time()
    assert len(match_labels(clips(*names), labels).by_clip) == 4000
    assert time.process_time() - started < 2


def test_names_are_compared_in_one_unicode_form(write):
    write(FILE, [{"video_path": unicodedata.normalize("NFD", "größe.mp4"), "labels": "squats - a"}])
    findings = Findings()
    every = clips(unicodedata.normalize("NFC", "squats/größe.mp4"))
    join_labels(every, read_labels(FILE, "dataset"), findings=findings)
    assert len(findings.items(Code.MATCHED_BY_NAME)) == 1


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        (
            [{"video_path": "1.mp4", "labels": "a"}],
            ["entry 1", "dataset/lunges/1.mp4 and dataset/squats/1.mp4", "folder in front"],
        ),
        ([{"video_path": "lunges/1.mp4", "labels": "a"}], ["1 of 2 clips", "dataset/squats/1.mp4", "dataset.exclude"]),
        (
            [
                {"video_path": "lunges/1.mp4", "labels": "a"},
                {"video_path": "squats/1.mp4", "labels": "a"},
                {"video_path": "dataset/squats/1.mp4", "labels": "b"},
            ],
            ["dataset/squats/1.mp4", "entry 2", "entry 3", "delete one"],
        ),
        (
            [
                {"video_path": "lunges/1.mp4", "labels": "a"},
                {"video_path": "squats/1.mp4", "labels": "a", "split": "train"},
                {"video_path": "dataset/squats/1.mp4", "labels": "a", "split": "test"},
            ],
            ["dataset/squats/1.mp4", "entry 2", "entry 3", "different splits, train and test", "delete one"],
        ),
        (
            [{"video_path": "lunges/1.mp4", "labels": "a"}, {"video_path": "squats/1.mp4", "labels": []}],
            ["dataset/squats/1.mp4", "entry 2 is empty", "dataset.exclude"],
        ),
    ],
)
def test_labels_that_leave_a_clip_without_one_or_with_two_are_refused(write, entries, parts):
    write(FILE, entries)
    with pytest.raises(InputError) as error:
        join_labels(clips("lunges/1.mp4", "squats/1.mp4"), read_labels(FILE, "dataset"))
    for part in parts:
        assert part in str(error.value)


def test_only_the_first_ten_clips_without_label_are_listed(write):
    write(FILE, [{"video_path": "x.mp4", "labels": "a"}])
    with pytest.raises(InputError, match=r"12 of 12 clips have no label: .*\.\.\.") as error:
        join_labels(clips(*(f"squats/{i}.mp4" for i in range(12))), read_labels(FILE, "dataset"))
    assert str(error.value).count("squats/") == 10
    assert "there is no clip for x.mp4 (dataset/" in str(error.value), "what may be a mistyped name"


def test_a_label_of_another_exercise_is_a_warning(write, caplog):
    labels = {"1": "Cat-Cow  Pose - fine", "2": "squats - a", "3": "holding still", "4": "lunges \u2013 a"}
    write(FILE, labels)
    findings = Findings()
    every = clips("cat-cow_pose/1.mp4", "lunges/2.mp4", "lunges/3.mp4", "lunges/4.mp4")
    join_labels(every, read_labels(FILE, "dataset"), findings=findings)
    assert findings.items(Code.OTHER_EXERCISE) == [
        "dataset/lunges/2.mp4 (squats - a)",
        "dataset/lunges/3.mp4 (holding still)",
    ]
    findings.log()
    assert "2 clips whose label does not begin with the manifest's exercise" in caplog.text


def test_labels_pair_with_descriptions_by_position_and_every_gap_is_counted(write, caplog):
    entries = {
        "1": {
            "labels": ["squats - slow", "squats - knees in"],
            "labels_descriptive": ["", "squats - Your knees cave in"],
        },
        "2": {"labels": ["squats - slow", "squats - deep"], "labels_descriptive": ["squats - Faster"]},
        "3": {"labels": ["", "squats - deep"], "labels_descriptive": ["squats - Faster", "squats - Too deep"]},
        "4": {"labels": ["squats - deep", ""], "labels_descriptive": ["squats - Too deep", " "]},
        "5": {"labels_descriptive": ["squats - Faster"]},
    }
    findings = Findings()
    every = clips(*(f"squats/{i}.mp4" for i in entries))
    matched = join_labels(every, read_labels(write(FILE, entries), "dataset"), findings=findings)
    assert answers(matched) == {
        "squats/1.mp4": "squats - Your knees cave in; squats - slow",
        "squats/2.mp4": "squats - Faster; squats - deep",
        "squats/3.mp4": "squats - Faster; squats - Too deep",
        "squats/4.mp4": "squats - Too deep",
        "squats/5.mp4": "squats - Faster",
    }
    assert findings.items(Code.MISSING_DESCRIPTION) == [
        "dataset/squats/1.mp4 (squats - slow)",
        "dataset/squats/2.mp4 (squats - deep)",
    ]
    assert findings.items(Code.MISSING_LABEL) == ["dataset/squats/3.mp4 (squats - Faster)"]
    findings.log()
    assert "2 labels without a description" in caplog.text and "1 description without a label" in caplog.text


def test_the_order_of_labels_in_the_file_does_not_matter(write):
    orders = [["a - x", "a - y"], ["a - y", "a - x"], ["a - y", "a - x", "a - y"]]
    entries = {str(i): {"labels": order} for i, order in enumerate(orders)}
    matched = join_labels(clips("a/0.mp4", "a/1.mp4", "a/2.mp4"), read_labels(write(FILE, entries), "dataset"))
    assert set(answers(matched).values()) == {"a - x; a - y"}
    both = [{"video_path": "0.mp4", "labels": order} for order in orders[:2]]
    join_labels(clips("a/0.mp4"), read_labels(write(FILE, both), "dataset"))  # equal labels of one clip, not two


def test_a_clip_without_feedback_is_left_out_and_listed(write, caplog):
    write(FEEDBACKS, [{"video_path": "1.mp4", "feedbacks": []}, {"video_path": "2.mp4", "feedbacks": ["Go."]}])
    labels, findings = read_labels(FEEDBACKS, "dataset", "feedbacks"), Findings()
    matched = join_labels(clips("squats/1.mp4", "squats/2.mp4", "squats/3.mp4"), labels, "feedbacks", findings)
    assert answers(matched) == {"squats/2.mp4": "Go."}
    assert findings.items(Code.WITHOUT_ANSWER) == [
        "dataset/squats/3.mp4 (no entry)",
        f"dataset/squats/1.mp4 ({FEEDBACKS}, entry 1 is empty)",
    ]
    with pytest.raises(InputError, match=r"2 of 2 clips have no answer: .*annotations\.source feedbacks"):
        join_labels(clips("squats/1.mp4", "squats/3.mp4"), labels, "feedbacks")
    findings.log()
    assert "2 clips left out because they have no answer" in caplog.text


def test_the_ground_truth_has_the_entries_of_the_clips_and_reads_back_the_same(write):
    every = clips(*(f"tricep_stretch/{i}.mp4" for i in range(5)))
    raw = [
        {"video_path": f"./{i}.mp4", "labels": [f"tricep stretch - {i}"], "labels_descriptive": [], "split": "train"}
        for i in range(9)
    ]
    matched = join_labels(every, read_labels(write("dataset/all.json", raw), "dataset"))
    path = write("results/ground_truth.json", ground_truth(matched))
    assert json.loads(Path(path).read_text()) == [
        {**entry, "video_path": clip.path} for entry, clip in zip(raw, every, strict=False)
    ]
    again = join_labels(every, read_labels(path, "dataset"))
    assert again.by_path == len(every)
    assert {p: r.turns for p, r in again.by_clip.items()} == {p: r.turns for p, r in matched.by_clip.items()}
