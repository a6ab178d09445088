import json
import logging
from pathlib import Path

import pytest

from mobilevideogpt.data.annotations import build_annotations, build_prompt, publish, summarise
from mobilevideogpt.data.labels import LabelRecord
from mobilevideogpt.data.manifest import Clip
from mobilevideogpt.data.records import read_annotations
from mobilevideogpt.errors import InputError

TEMPLATE = "Analyze this {exercise} video and provide corrective feedback."
CLIPS = [Clip(f"dataset/tricep_stretch/{i}.mp4", "tricep_stretch") for i in range(5)]
RECORDS = [LabelRecord(f"{i}.mp4", (f"tricep stretch - {i}",), split="train") for i in range(6)]


def built(**changes):
    settings = {"prompt_template": TEMPLATE, "split": {"train": 0.6, "val": 0.2, "test": 0.2}, "seed": 42} | changes
    return build_annotations(CLIPS, RECORDS, **settings)


def test_a_record_holds_the_video_the_question_and_the_answer(caplog):
    with caplog.at_level(logging.INFO):
        annotations = built()
    assert {split: len(rows) for split, rows in annotations.items()} == {"train": 3, "val": 1, "test": 1}
    [row] = annotations["test"]
    assert row == {
        "video": row["video"],
        "conversations": [
            {"from": "human", "value": "<video>\nAnalyze this tricep stretch video and provide corrective feedback."},
            {"from": "gpt", "value": f"tricep stretch - {Path(row['video']).stem}"},
        ],
        "split": "test",
    }
    assert "is not used" in caplog.text  # the data set's own split


def test_all_clips_can_go_to_train():
    annotations = built(split={"train": 1, "val": 0, "test": 0})
    assert [row["video"] for row in annotations["train"]] == [clip.path for clip in CLIPS]
    assert annotations["val"] == annotations["test"] == []


def test_the_summary_counts_splits_exercises_and_joins():
    summary = summarise(CLIPS, RECORDS, built())
    assert summary["exercises"] == {"tricep_stretch": {"train": 3, "val": 1, "test": 1}}
    assert summary["labels"] == {"answer_from_labels": 5, "by_name": 5, "labels_without_clip": 1}


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (TEMPLATE, "<video>\nAnalyze this cat-cow pose video and provide corrective feedback."),
        ("What is wrong?", "<video>\nWhat is wrong?"),
        ("<video>\nWhat is wrong?", "<video>\nWhat is wrong?"),
        ("What is wrong here?\n<video>", "What is wrong here?\n<video>"),
        ("Braces: {{}}", "<video>\nBraces: {}"),
    ],
)
def test_the_template_is_filled_and_the_video_put_in_front(template, prompt):
    assert build_prompt(template, "cat-cow_pose") == prompt


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("Analyze {clip}", ["annotations.prompt", "{clip}", "only {exercise}"]),
        ("Analyze {}", ["annotations.prompt", "{}", "only {exercise}"]),
        ("Analyze {exercise.name}", ["{exercise.name}", "only {exercise}"]),
        ("Analyze {exercise", ["annotations.prompt", "double a brace"]),
        ("<video> and <video>", ["annotations.prompt", "2 times"]),
        ("<video>\n", ["annotations.prompt", "asks nothing"]),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template, parts):
    with pytest.raises(InputError) as error:
        build_prompt(template, "squats")
    for part in parts:
        assert part in str(error.value)


def test_published_files_are_ours_to_replace(project):
    publish(built(), "dataset", "results/published.json")
    publish(built(seed=1, prompt_template="What now?"), "dataset", "results/published.json")
    assert len(read_annotations("dataset/qved_train.json")) == 3
    assert sorted(path.name for path in Path("dataset").iterdir()) == [
        "qved_test.json",
        "qved_train.json",
        "qved_val.json",
    ]


def test_a_users_file_is_set_aside_and_never_overwritten(write, caplog):
    write("dataset/qved_train.json", "mine")
    write("dataset/qved_train.json.set-aside-1", "older")
    aside = publish(built(), "dataset", "results/published.json")
    assert aside == ["dataset/qved_train.json.set-aside-2"]
    assert Path(aside[0]).read_text() == "mine"
    assert Path("dataset/qved_train.json.set-aside-1").read_text() == "older"
    assert "not written by this workflow" in caplog.text
    Path("dataset/qved_val.json").write_text("edited by hand")
    assert publish(built(), "dataset", "results/published.json") == ["dataset/qved_val.json.set-aside-1"]


def test_a_lost_memory_sets_aside_only_what_differs(project):
    publish(built(), "dataset", "results/published.json")
    Path("results/published.json").unlink()
    assert publish(built(), "dataset", "results/published.json") == []


GOOD = {"video": "a.mp4", "conversations": [{"from": "human", "value": "<video>\nQ"}, {"from": "gpt", "value": "A"}]}


def turns(human, answer):
    return [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ({}, "holds a dict"),
        ([GOOD, 3], "record 2"),
        ([GOOD, {"video": "b.mp4"}], "record 2, b.mp4"),
        ([GOOD | {"conversations": turns("Q", "A")}], "record 1, a.mp4"),  # no <video>, as the predecessor wrote
        ([GOOD | {"conversations": turns("<video>\n<video>\nQ", "A")}], "record 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", "A <video>")}], "record 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", " ")}], "record 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", 3)}], "record 1, a.mp4"),
        ([GOOD | {"conversations": GOOD["conversations"][::-1]}], "record 1, a.mp4"),
        ([GOOD | {"conversations": GOOD["conversations"] * 2}], "record 1, a.mp4"),
        ([GOOD | {"video": None}], "record 1"),
    ],
)
def test_bad_annotations_are_refused_with_file_record_and_remedy(write, content, part):
    path = write("results/qved_train.json", content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as error:
        read_annotations(path)
    for expected in (path, part, "`snakemake annotations`"):
        assert expected in str(error.value)
