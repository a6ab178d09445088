"""The split as a user steers it: the labels' own, who is seen, splits.csv, and none at all."""

import csv

from mobilevideogpt.files import write_json
from mobilevideogpt.sample.render import ClipSpec, write_clip

CHECK = {"check_labels", "probe_clip", "check_clips", "find_duplicates"}


def split_of(project) -> dict[str, str]:
    rows = (project.json(f"results/annotations/qved_{split}.json") for split in ("train", "val", "test"))
    return {row["video"].removeprefix("dataset/"): row["split"] for split in rows for row in split}


def add_clip(project, path: str, seed: int) -> None:
    """Add a clip, with its label; its frames differ from all others, as equal ones are one recording."""
    write_clip(ClipSpec("squats", seed=(seed,)), project / "dataset" / path)
    labels = project.json("dataset/fine_grained_labels.json")
    write_json([*labels, {**labels[0], "video_path": path}], project / "dataset/fine_grained_labels.json")
    clips = project.json("dataset/manifest.json")
    write_json({**clips, f"dataset/{path}": "squats"}, project / "dataset/manifest.json")


def test_pinned_clips_stay_when_others_come(fresh):
    outcome = fresh.run("pin_splits")
    assert outcome.finished == {*CHECK, "build_annotations", "pin_splits"} and "8 clips written" in outcome.text
    before = split_of(fresh)
    with open(fresh / "dataset/splits.csv", newline="") as file:
        assert {row["clip"]: row["split"] for row in csv.DictReader(file)} == before
    (held,) = (clip for clip, split in before.items() if split == "test" and clip.startswith("squats"))
    copy = held.replace(".mp4", "_1.mp4")
    add_clip(fresh, copy, seed=13)
    add_clip(fresh, "squats/0005.mp4", seed=14)
    fresh.configure(annotations={"seed": 7})
    outcome = fresh.run("pin_splits")
    after = split_of(fresh)
    assert {clip: after[clip] for clip in before} == before and after[copy] == "test"
    assert "2 clips added, the 8 that were there" in outcome.text
    assert fresh.run("annotations").finished == {
        "check_labels",
        "build_annotations",
        "annotations",
    }  # obeys what it said itself
    assert split_of(fresh) == after and fresh.snakemake("-n", "annotations").is_settled


def test_the_labels_own_split_is_obeyed_and_no_person_is_in_two(fresh):
    labels = fresh.json("dataset/fine_grained_labels.json")
    for label in labels:
        label["split"] = "test" if label["video_path"].endswith("4.mp4") else "train"
    write_json(labels, fresh / "dataset/fine_grained_labels.json")
    workers = [{"video_path": label["video_path"], "worker_id": int(label["video_path"][-5])} for label in labels]
    write_json(workers, fresh / "dataset/fine_grained_labels_with_worker_ids.json")
    fresh.run("annotations")
    got = split_of(fresh)
    assert {clip for clip, split in got.items() if split == "test"} == {"squats/0004.mp4", "tricep_stretch/0004.mp4"}
    assert all(got[f"squats/000{i}.mp4"] == got[f"tricep_stretch/000{i}.mp4"] for i in range(1, 5))
    assert sorted(got.values()).count("val") == 2
    split = fresh.json("results/annotations/summary.json")["split"]
    assert (split["source"], split["groups"], split["leaks"]) == ("labels", 4, [])


def test_all_clips_can_be_trained_on_and_nothing_is_evaluated(fresh):
    fresh.configure(annotations={"split": {"train": 1.0, "val": 0, "test": 0}})
    fresh.run("annotations")
    assert set(split_of(fresh).values()) == {"train"} and len(split_of(fresh)) == 8
    assert (
        {"finetune"}
        <= fresh.snakemake("-n").planned
        <= {*("all", "check_device", "describe_base", "features", "preflight", "finetune")}
    )
