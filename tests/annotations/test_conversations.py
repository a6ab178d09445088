from pathlib import Path

import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.conversations import build_annotations, build_prompt
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import Label, read_labels
from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.errors import InputError

TEMPLATE = "Analyze this {exercise} video and provide corrective feedback."
CLIPS = [Clip(f"dataset/tricep_stretch/{i}.mp4", "tricep_stretch") for i in range(5)]
LABELS = [
    Label(f"{i}.mp4", (f"tricep stretch - {i}",), split="train", origin=f"labels.json, entry {i}") for i in range(6)
]


def built(**changes):
    settings = {"prompt_template": TEMPLATE, "split": {"train": 0.6, "val": 0.2, "test": 0.2}, "seed": 42} | changes
    matched = join_labels(CLIPS, LABELS)
    splits = assign_splits(CLIPS, matched.by_clip, settings.pop("split"), settings.pop("seed"))
    return build_annotations(CLIPS, matched, splits.by_clip, **settings)


def test_a_sample_has_the_video_its_exercise_the_question_and_the_answer():
    annotations = built()
    assert {split: len(samples) for split, samples in annotations.items()} == {"train": 3, "val": 1, "test": 1}
    [sample] = annotations["test"]
    assert list(sample) == ["video", "exercise", "group", "conversations", "split"]
    assert sample == {
        "video": sample["video"],
        "exercise": "tricep_stretch",
        "group": sample["video"],
        "conversations": [
            {"from": "human", "value": "<video>\nAnalyze this tricep stretch video and provide corrective feedback."},
            {"from": "gpt", "value": f"tricep stretch - {Path(sample['video']).stem}"},
        ],
        "split": "test",
    }


def test_all_clips_can_go_to_train():
    annotations = built(split={"train": 1, "val": 0, "test": 0})
    assert [sample["video"] for sample in annotations["train"]] == [clip.path for clip in CLIPS]
    assert annotations["val"] == annotations["test"] == []


def test_each_question_makes_a_sample_of_its_own_and_a_clip_stays_in_one_split(write):
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
    matched = join_labels(CLIPS, read_labels(path, "dataset", "questions"), "questions")
    split = {"train": 0.5, "val": 0.25, "test": 0.25}
    splits = assign_splits(CLIPS, matched.by_clip, split, 1)
    annotations = build_annotations(CLIPS, matched, splits.by_clip, prompt_template=TEMPLATE)
    assert {name: len(samples) for name, samples in annotations.items()} == {"train": 4, "val": 2, "test": 2}
    first, second = annotations["test"]
    assert first["video"] == second["video"]
    assert [turn["value"] for turn in first["conversations"]] == ["<video>\nWhich {exercise}?", "Tricep stretch."]
    assert second["conversations"][0]["value"] == "<video>\nArm straight?"
    write("dataset/qved_test.json", annotations["test"])
    assert read_samples("dataset/qved_test.json") == annotations["test"]


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
        ("<video>\n", ["annotations.prompt", "has no text"]),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template, parts):
    with pytest.raises(InputError) as error:
        build_prompt(template, "squats")
    for part in parts:
        assert part in str(error.value)
