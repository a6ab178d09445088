import json
import logging

import pytest

from mobilevideogpt.annotations.build import build
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
            "problems": ["is damaged"] * (status == "error"),
        }
        for i, status in enumerate(statuses)
    ]
    return {"clips": clips}


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
    assert list(listed) == ["excluded", "label_without_clip", "matched_by_name", "bare_label"]
    assert listed["label_without_clip"]["items"] == [
        "4.mp4 (dataset/labels.json, entry 5)",
        "5.mp4 (dataset/labels.json, entry 6)",
    ]


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
    assert "1 clips left out because they cannot be used" in caplog.text
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
