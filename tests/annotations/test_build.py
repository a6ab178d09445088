import json
import logging

import pytest

from mobilevideogpt.annotations.build import _equation, build, splits_sentence
from mobilevideogpt.errors import InputError

SETTINGS = {
    "data_root": "dataset",
    "prompt": "Analyze this {exercise} video.",
    "split": {"train": 0.6, "val": 0.2, "test": 0.2},
    "seed": 42,
}


@pytest.fixture
def files(write):
    """A manifest of five clips, a label file of six entries."""
    manifest = write("dataset/manifest.json", {f"tricep_stretch/{i}.mp4": "tricep stretch" for i in range(5)})
    entries = [{"video_path": f"{i}.mp4", "labels": [f"tricep stretch - {i}"], "split": "train"} for i in range(6)]
    return manifest, write("dataset/labels.json", entries)


def report(*statuses):
    """An integrity report of the first clips."""
    clips = [
        {
            "video": f"dataset/tricep_stretch/{i}.mp4",
            "verdict": status,
            "problems": {"ok": [], "warning": ["is interlaced"], "error": ["is damaged"]}[status],
            "file": f"dataset/tricep_stretch/{i}.mp4",
            "digest": f"{i}",
        }
        for i, status in enumerate(statuses)
    ]
    return {"checks": [], "clips": clips}


def test_the_annotations_the_ground_truth_and_the_summary_speak_of_the_same_clips(files):
    built = build(*files, exclude=["tricep_stretch/4.mp4"], **SETTINGS)
    videos = sorted(sample["video"] for samples in built.annotations.values() for sample in samples)
    assert videos == [f"dataset/tricep_stretch/{i}.mp4" for i in range(4)]
    assert [entry["video_path"] for entry in built.ground_truth] == videos
    summary = json.loads(json.dumps(built.summary))
    assert (summary["clips"], summary["joined_by_path"]) == (4, 0)
    assert summary["splits"] == summary["conversations"] == {"train": 2, "val": 1, "test": 1}
    assert summary["exercises"] == {"tricep_stretch": {"train": 2, "val": 1, "test": 1}}
    assert (summary["split"]["source"], summary["split"]["groups"], summary["split"]["leaks"]) == ("fractions", 4, [])
    assert "(train 4) is not used" in summary["split"]["notices"][0]
    listed = {finding["code"]: finding for finding in summary["findings"]}
    assert list(listed) == ["excluded", "matched_by_name", "label_without_clip", "bare_label"]
    assert listed["label_without_clip"]["items"] == [
        "4.mp4 (dataset/labels.json, entry 5)",
        "5.mp4 (dataset/labels.json, entry 6)",
    ]


def test_the_exercise_is_the_answer_where_folders_are_the_labels(write):
    entries = {f"{name}/{i}.mp4": name for name in ("squats", "push_ups") for i in range(3)}
    segments = {"start": 0.0, "end": 2.0, "exercise": "push ups"}
    manifest = write("dataset/manifest.json", {**entries, "session.mp4": [segments]})
    built = build(manifest, None, source="folders", **SETTINGS | {"prompt": "Which exercise is it?"})
    samples = [sample for samples in built.annotations.values() for sample in samples]
    answers = {sample["video"]: sample["conversations"][1]["value"] for sample in samples}
    assert answers.pop("dataset/session.mp4#t=0,2") == "push ups"
    assert answers == {f"dataset/{path}": name.replace("_", " ") for path, name in entries.items()}
    assert [row["code"] for row in built.summary["findings"]] == [], "nothing was guessed or left out"
    assert len(built.ground_truth) == 7


def test_the_splits_are_told_in_a_line():
    counts = {"splits": {"train": 14, "val": 5, "test": 5}, "split": {"source": "fractions"}}
    assert splits_sentence(counts) == "Splits: 14 train, 5 validation, 5 test, drawn within each exercise"
    counts = {"splits": {"train": 24, "val": 0, "test": 0}, "split": {"source": "labels"}}
    assert splits_sentence(counts) == "Splits: 24 train, as the label file says"


def test_questions_are_counted_as_conversations_and_their_clips_once(files, write):
    asked = {"query": ["Arm straight?", "Fast?"], "response": ["Yes.", "No."]}
    questions = write("dataset/questions.json", [{"video_path": f"{i}.mp4", "fine_grain": asked} for i in range(4)])
    summary = build(
        files[0], questions, source="questions", **SETTINGS | {"split": {"train": 0.5, "val": 0.25, "test": 0.25}}
    ).summary
    assert summary["splits"] == summary["exercises"]["tricep_stretch"] == {"train": 2, "val": 1, "test": 1}
    assert summary["conversations"] == {"train": 4, "val": 2, "test": 2}


def test_clips_that_cannot_be_used_are_left_out_with_a_warning_but_not_all(files, write, caplog):
    integrity = write("results/verify/report.json", report("ok", "error", "warning", "ok", "ok"))
    built = build(*files, integrity=integrity, **SETTINGS)
    assert built.summary["clips"] == 4
    assert built.summary["findings"][0]["items"] == ["dataset/tricep_stretch/1.mp4: is damaged"]
    assert built.summary["findings"][1]["items"] == ["dataset/tricep_stretch/2.mp4: is interlaced"]
    assert "1 clip left out because it cannot be used" in caplog.text
    assert "1 clip with a warning of the clip check, used as it is" in caplog.text
    write("results/verify/report.json", report(*["error"] * 5))
    with pytest.raises(InputError, match=r"none of the 5 clips can be used; .* see results/verify/report\.md"):
        build(*files, integrity=integrity, **SETTINGS)


def test_persons_and_pins_are_read_where_there_are_files(files, write):
    workers = [{"video_path": f"{i}.mp4", "worker_id": i // 2} for i in range(5)]
    built = build(
        *files,
        workers=write("dataset/workers.json", workers),
        pins=write("dataset/splits.csv", "clip,split\ntricep_stretch/4.mp4,test\n"),
        **SETTINGS,
    )
    assert built.summary["split"]["groups"] == 3
    assert [sample["video"] for sample in built.annotations["test"]] == ["dataset/tricep_stretch/4.mp4"]


def test_findings_are_logged_before_an_error_too(files, caplog):
    with caplog.at_level(logging.INFO), pytest.raises(InputError, match=r"annotations\.prompt"):
        build(*files, **SETTINGS | {"prompt": "{clip}"})
    assert "5 clips matched to their label by name" in caplog.text


def listed(built):
    return {row["code"]: row["items"] for row in built.summary["findings"]}


def dataset(write, labels, exercises=("squats", "lunges")):
    """A manifest and a label file of ten clips in one folder; exercises and labels are used in turn."""
    names = {f"clips/{i}.mp4": exercises[i % len(exercises)] for i in range(10)}
    entries = {name: labels[i % len(labels)] for i, name in enumerate(names)}
    return write("dataset/manifest.json", names), write("dataset/labels.json", entries)


def test_each_sample_names_the_exercise_of_the_manifest_and_its_group(write):
    files = dataset(write, ["squats - a", "lunges - a"])
    workers = [{"video_path": f"{i}.mp4", "worker_id": i // 4} for i in range(10)]
    built = build(*files, workers=write("dataset/workers.json", workers), **SETTINGS)
    samples = [sample for split in built.annotations.values() for sample in split]
    assert {sample["video"]: (sample["exercise"], sample["group"]) for sample in samples} == {
        f"dataset/clips/{i}.mp4": (("squats", "lunges")[i % 2], f"dataset/clips/{i // 4 * 4}.mp4") for i in range(10)
    }


def alike(*pairs, same_recording=True):
    """``duplicates.json`` of clips that are given by number."""
    return [
        {
            "clips": [f"dataset/clips/{one}.mp4", f"dataset/clips/{other}.mp4"],
            "distance": 0.4,
            "mirrored": False,
            "same_recording": same_recording,
        }
        for one, other in pairs
    ]


def test_equal_files_and_copies_by_their_frames_are_one_recording_with_a_warning(write, caplog):
    files = dataset(write, ["squats - a", "lunges - a"])
    for number in range(10):
        write(f"dataset/clips/{number}.mp4", "same" if number in (2, 7) else f"{number:04d}")
    pairs = [*alike((0, 5), (5, 9), (2, 7), (1, 99)), *alike((3, 4), same_recording=False)]
    duplicates = write("results/verify/duplicates.json", pairs)
    for seed in range(8):
        built = build(*files, duplicates=duplicates, **SETTINGS | {"seed": seed})
        split_of = {sample["video"]: name for name, samples in built.annotations.items() for sample in samples}
        assert split_of["dataset/clips/2.mp4"] == split_of["dataset/clips/7.mp4"]
        assert len({split_of[f"dataset/clips/{number}.mp4"] for number in (0, 5, 9)}) == 1
    assert built.summary["split"]["groups"] == 7
    assert listed(built)["equal_files"] == ["dataset/clips/2.mp4 = dataset/clips/7.mp4"]
    assert listed(built)["same_frames"] == [
        "dataset/clips/0.mp4 = dataset/clips/5.mp4 (0.4 bits of 63 apart)",
        "dataset/clips/5.mp4 = dataset/clips/9.mp4 (0.4 bits of 63 apart)",
    ]
    assert "1 group of clips with equal files; it stays" in caplog.text
    assert "2 pairs of clips whose frames are those of one recording" in caplog.text


@pytest.mark.parametrize(("length", "joined"), [(10, True), (11, False), (50, False)])
def test_a_chain_of_clips_that_look_alike_by_chance_does_not_join_the_data_set(write, caplog, length, joined):
    names = {f"clips/{i}.mp4": ("squats", "lunges")[i % 2] for i in range(50)}
    labels = {path: f"{exercise} - a" for path, exercise in names.items()}
    files = write("dataset/manifest.json", names), write("dataset/labels.json", labels)
    duplicates = write("results/verify/duplicates.json", alike(*((i, i + 1) for i in range(length - 1))))
    built = build(*files, duplicates=duplicates, **SETTINGS)
    assert built.summary["split"]["groups"] == (50 - length + 1 if joined else 50)
    assert ("same_frames" in listed(built)) == joined
    assert (f"{length} of 50 clips look alike, each like another one (dataset/clips/0.mp4, " in caplog.text) != joined


def test_copies_by_their_frames_that_are_pinned_apart_are_leakage(write):
    files = dataset(write, ["squats - a", "lunges - a"])
    pins = write("dataset/splits.csv", "clip,split\nclips/2.mp4,train\nclips/4.mp4,test\n")
    duplicates = write("results/verify/duplicates.json", alike((2, 4)))
    built = build(*files, pins=pins, duplicates=duplicates, **SETTINGS)
    assert built.summary["split"]["leaks"] == ["dataset/clips/4.mp4 is test and dataset/clips/2.mp4 is train"]


@pytest.mark.parametrize("content", ["{}", "1", "[1]", '[{"clips": []}]', "["])
def test_a_malformed_list_of_alike_clips_is_refused_with_the_command(files, write, content):
    with pytest.raises(InputError, match=r"duplicates\.json: .*--forcerun find_duplicates"):
        build(*files, duplicates=write("results/verify/duplicates.json", content), **SETTINGS)


def test_a_draft_logs_its_findings_only_before_an_error_and_clips_may_still_be_left_out(files, write, caplog):
    with caplog.at_level(logging.INFO):
        built = build(*files, draft=True, **SETTINGS)
        assert "matched to their label by name" not in caplog.text
        assert built.annotations == build(*files, **SETTINGS).annotations
    labels = write("dataset/labels.json", [{"video_path": f"{i}.mp4", "labels": ["a - b"]} for i in range(4)])
    with pytest.raises(InputError, match="1 of 5 clips have no label"):
        build(files[0], labels, draft=True, **SETTINGS)
    built = build(files[0], labels, draft=True, complete=False, **SETTINGS)
    assert sum(built.summary["splits"].values()) == 4


def test_of_a_large_group_of_equal_files_some_are_named():
    assert _equation(["a", "b"]) == "a = b"
    text = _equation([f"{n}.mp4" for n in range(1234)])
    assert text.startswith("0.mp4 = 1.mp4") and text.endswith("9.mp4 = ... (1,224 more)")


def test_equal_files_that_are_pinned_apart_are_leakage_and_keep_one_group(write):
    files = dataset(write, ["squats - a", "lunges - a"])
    for number in range(10):
        write(f"dataset/clips/{number}.mp4", "same" if number in (2, 4) else f"{number:04d}")
    pins = write("dataset/splits.csv", "clip,split\nclips/2.mp4,train\nclips/4.mp4,test\n")
    built = build(*files, pins=pins, **SETTINGS)
    assert built.summary["split"]["leaks"] == ["dataset/clips/4.mp4 is test and dataset/clips/2.mp4 is train"]
    samples = [sample for split in built.annotations.values() for sample in split]
    assert len({sample["group"] for sample in samples if sample["video"][-5] in "24"}) == 1


@pytest.mark.parametrize("labels", [["Good form.", "Go deeper."], ["Good - go deeper"], ["lunges - a", "squats - a"]])
def test_answers_that_do_not_begin_with_their_own_exercise_are_free_text_which_one_warning_says(write, caplog, labels):
    built = build(*dataset(write, labels), **SETTINGS)
    [sentence] = [text for text in built.summary["split"]["notices"] if "free text" in text]
    assert "0 of 10 begin with the exercise of their clip (dataset/clips/" in sentence
    assert f"its answer begins '{labels[0]}'" in sentence or f"its answer begins '{labels[-1]}'" in sentence
    assert sentence in caplog.text
    assert "other_exercise" not in listed(built)


def test_free_text_is_expected_of_feedbacks_and_not_said_of_labels(write, caplog):
    manifest, labels = dataset(write, ["squats - a", "lunges \u2014 a"])
    assert not any("free text" in text for text in build(manifest, labels, **SETTINGS).summary["split"]["notices"])
    feedbacks = write("dataset/feedbacks.json", {f"clips/{i}.mp4": ["Go deeper."] for i in range(10)})
    summary = build(manifest, feedbacks, source="feedbacks", **SETTINGS).summary
    assert any("free text" in text for text in summary["split"]["notices"])
    assert "free text" not in caplog.text


def test_a_description_that_names_no_exercise_makes_free_text_whatever_the_label(write):
    files = dataset(write, [{"labels": ["squats"], "labels_descriptive": ["Go deeper."]}], exercises=["squats"])
    assert any("free text" in text for text in build(*files, **SETTINGS).summary["split"]["notices"])


def test_answers_that_are_too_long_to_be_given_are_a_warning(write, caplog):
    files = dataset(write, ["squats - knees in", "lunges - a"])
    assert "long_answer" not in listed(build(*files, **SETTINGS))
    assert "long_answer" not in listed(build(*files, max_new_tokens=4, **SETTINGS))
    items = listed(build(*files, max_new_tokens=3, **SETTINGS))["long_answer"]
    assert sorted(items) == [f"dataset/clips/{i}.mp4 (at least 4 tokens)" for i in range(0, 10, 2)]
    assert "5 answers longer than evaluate.max_new_tokens" in caplog.text


def no_control(built):
    return [text for text in built.summary["split"]["notices"] if "looks at the video is not possible" in text]


def test_a_test_split_of_one_exercise_is_told_before_the_training(write, caplog):
    labels = ["squats - a", "lunges - a"]
    assert not no_control(build(*dataset(write, labels), **SETTINGS))
    one = dataset(write, labels[:1], exercises=["squats"])
    [sentence] = no_control(build(*one, **SETTINGS))
    assert "one exercise (squats)" in sentence and sentence in caplog.text
    assert not no_control(build(*one, **SETTINGS | {"split": {"train": 0.8, "val": 0.2, "test": 0}}))


@pytest.mark.parametrize(
    ("question", "answer", "possible"),
    [
        ("Deep?", "{exercise}.", True),
        ("Are the {exercise} deep?", "{exercise}.", True),
        ("Deep?", "Yes.", False),
        ("Deep {i}?", "{exercise}.", False),
    ],
)
def test_questions_need_one_that_clips_of_two_exercises_answer_differently(write, question, answer, possible):
    exercises = ("squats", "lunges")
    manifest, _ = dataset(write, ["a"], exercises)
    asked = {}
    for i in range(10):
        query, response = (text.format(i=i, exercise=exercises[i % 2]) for text in (question, answer))
        asked[f"clips/{i}.mp4"] = {"fine_grain": {"query": [query], "response": [response]}}
    built = build(manifest, write("dataset/questions.json", asked), source="questions", **SETTINGS)
    assert len(no_control(built)) == (not possible)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"squats": 30, "lunges": 10, "rows": 15}, "squats has 18 training clips, lunges has 6"),
        ({"squats": 25, "lunges": 10, "rows": 15}, None),
        ({"squats": 5, "lunges": 1}, "squats has 3 training clips, lunges has 1"),
        ({"squats": 9}, None),
    ],
)
def test_unbalanced_exercises_are_told_with_numbers_before_the_training(write, caplog, numbers, said):
    names = {f"{exercise}/{exercise}{i}.mp4": exercise for exercise, count in numbers.items() for i in range(count)}
    files = (
        write("dataset/manifest.json", names),
        write("dataset/labels.json", {k: f"{v} - a" for k, v in names.items()}),
    )
    notices = build(*files, **SETTINGS).summary["split"]["notices"]
    assert [text for text in notices if "unbalanced" in text] == [text for text in notices if said and said in text]
    assert ("unbalanced" in caplog.text) == bool(said)
