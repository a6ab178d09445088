import json
from pathlib import Path

import pytest

from mobilevideogpt.annotations.conversations import LISTED, build_annotations, build_prompt, ground_truth, summarise
from mobilevideogpt.annotations.labels import LabelRecord, join_records, read_records
from mobilevideogpt.annotations.manifest import Clip, Findings
from mobilevideogpt.annotations.samples import read_annotations
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.errors import InputError

TEMPLATE = "Analyze this {exercise} video and provide corrective feedback."
CLIPS = [Clip(f"dataset/tricep_stretch/{i}.mp4", "tricep_stretch") for i in range(5)]
RECORDS = [
    LabelRecord(f"{i}.mp4", (f"tricep stretch - {i}",), split="train", origin=f"labels.json, record {i}")
    for i in range(6)
]


def built(**changes):
    settings = {"prompt_template": TEMPLATE, "split": {"train": 0.6, "val": 0.2, "test": 0.2}, "seed": 42} | changes
    matched = join_records(CLIPS, RECORDS)
    splits = assign_splits(CLIPS, matched.by_clip, settings.pop("split"), settings.pop("seed"))
    return build_annotations(CLIPS, matched, splits.by_clip, **settings)


def test_a_record_holds_the_video_the_question_and_the_answer():
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


def test_all_clips_can_go_to_train():
    annotations = built(split={"train": 1, "val": 0, "test": 0})
    assert [row["video"] for row in annotations["train"]] == [clip.path for clip in CLIPS]
    assert annotations["val"] == annotations["test"] == []


def test_the_summary_counts_what_went_where_and_lists_what_was_passed_over():
    findings = Findings(list, {"clips left out by dataset.exclude": ["x.mp4"] * (LISTED + 1)})
    matched = join_records(CLIPS, RECORDS)
    splits = assign_splits(CLIPS, matched.by_clip, {"train": 0.6, "val": 0.2, "test": 0.2}, 42)
    annotations = build_annotations(CLIPS, matched, splits.by_clip, prompt_template=TEMPLATE)
    summary = summarise(CLIPS, matched, splits, annotations, findings)
    assert (summary["clips"], summary["joined_by_path"]) == (5, 0)
    assert summary["splits"] == {"train": 3, "val": 1, "test": 1}
    assert summary["exercises"] == {"tricep_stretch": {"train": 3, "val": 1, "test": 1}}
    assert (summary["split"]["source"], summary["split"]["groups"]) == ("fractions", 5)
    assert "(train 5) is not used" in summary["split"]["notices"][0]
    listed = {finding["reason"]: finding for finding in summary["findings"]}
    assert len(listed) == len(summary["findings"]) == 4
    left_out = listed["clips left out by dataset.exclude"]
    assert (left_out["count"], len(left_out["items"])) == (LISTED + 1, LISTED)
    assert listed["records that speak of no clip of the manifest"]["items"] == ["5.mp4 (labels.json, record 5)"]


def test_each_question_makes_a_record_of_its_own_and_a_clip_stays_in_one_split(write):
    path = write(
        "dataset/questions.json",
        [
            {
                "video_path": f"{i}.mp4",
                "high_level": {"query": ["Which {exercise}?"], "response": ["Tricep stretch."]},
                "fine_grain": {"query": ["Arm straight?"], "response": [f"No, {i}."]},
            }
            for i in range(4)
        ],
    )
    matched = join_records(CLIPS, read_records(path, "dataset", "questions"), "questions")
    split = {"train": 0.5, "val": 0.25, "test": 0.25}
    splits = assign_splits(CLIPS, matched.by_clip, split, 1)
    annotations = build_annotations(CLIPS, matched, splits.by_clip, prompt_template=TEMPLATE)
    assert {name: len(rows) for name, rows in annotations.items()} == {"train": 4, "val": 2, "test": 2}
    first, second = annotations["test"]
    assert first["video"] == second["video"]
    assert [turn["value"] for turn in first["conversations"]] == ["<video>\nWhich {exercise}?", "Tricep stretch."]
    assert second["conversations"][0]["value"] == "<video>\nArm straight?"
    write("dataset/qved_test.json", annotations["test"])
    assert read_annotations("dataset/qved_test.json") == annotations["test"]
    summary = summarise(CLIPS, matched, splits, annotations, Findings(list))
    assert summary["splits"] == summary["exercises"]["tricep_stretch"] == {"train": 2, "val": 1, "test": 1}
    assert summary["conversations"] == {"train": 4, "val": 2, "test": 2}


def test_the_ground_truth_holds_the_records_of_the_clips_and_reads_back_the_same(write):
    raw = [
        {"video_path": f"./{i}.mp4", "labels": [f"tricep stretch - {i}"], "labels_descriptive": [], "split": "train"}
        for i in range(9)
    ]
    matched = join_records(CLIPS, read_records(write("dataset/all.json", raw), "dataset"))
    path = write("results/ground_truth.json", ground_truth(matched))
    assert json.loads(Path(path).read_text()) == [
        {**record, "video_path": clip.path} for record, clip in zip(raw, CLIPS, strict=False)
    ]
    again = join_records(CLIPS, read_records(path, "dataset"))
    assert again.by_path == len(CLIPS)
    assert {p: r.turns for p, r in again.by_clip.items()} == {p: r.turns for p, r in matched.by_clip.items()}


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
