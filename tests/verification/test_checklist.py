from pathlib import Path

import pynvml
import pytest

from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import Label
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.checks import print_checks
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.verification.checklist import checklist, markdown
from mobilevideogpt.verification.clip_report import clip_report

CLIP_CHECK = {"brightness": 100.0, "sharpness": 50.0, "motion": 3.0, "reencode": []}
CLIP_CHECK |= {"verdict": "ok", "problems": [], "digest": "a"}


@pytest.fixture
def checks(project, write):
    """Nine clips without a fault; returns a function that makes their checklist."""
    entries = {f"dataset/{exercise}/{i}.mp4": exercise for exercise in ("squats", "lunges", "rows") for i in range(3)}
    for path in entries:
        write(path, "x")
    clips = read_manifest(write("dataset/manifest.json", entries), "dataset")
    labels = write("dataset/ground_truth.json", {clip.path: "squats - a" for clip in clips})
    write_json(clip_report([CLIP_CHECK | {"video": clip.path} for clip in clips]), "results/verify/report.json")
    records = [Label(clip.path.removeprefix("dataset/"), ("squats - a",)) for clip in clips]
    matched = join_labels(clips, records)
    splits = assign_splits(clips, matched.by_clip, {"train": 0.6, "val": 0.2, "test": 0.2}, 0).by_clip
    for name, rows in build_annotations(clips, matched, splits, prompt_template="Q").items():
        write_json(rows, f"results/annotations/qved_{name}.json")
    return lambda **changes: checklist(
        **{"data_root": "dataset", "results": "results", "label_files": [labels], **changes}
    )


def wrong(checks):
    return {check.name: check.text for check in checks if not check.ok}


def test_the_checklist_of_a_sound_project_fits_on_a_screen(checks, capsys):
    found = checks()
    assert wrong(found) == {}
    print_checks(found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert any("3 exercises, 3 clips each" in line for line in lines)
    assert lines[-1].endswith("checks: all ok")


def test_where_jobs_run_elsewhere_the_preflight_tells_of_the_machine_and_not_this_one(checks):
    asked = {"allow_cpu": False, "elsewhere": True}
    [gpu] = [check for check in checks(**asked) if check.name == "GPU"]
    assert gpu.state == "later" and "snakemake preflight" in gpu.remedy
    found = {"name": "device", "ok": True, "detail": "NVIDIA H200", "remedy": ""}
    write_json({"checks": [found]}, "results/preflight.json")
    [gpu] = [check for check in checks(**asked) if check.name == "GPU"]
    assert gpu.state == "ok" and gpu.detail == "NVIDIA H200; found by results/preflight.json"
    assert "machine" not in {check.name for check in checks(**asked)}


def test_clips_that_the_manifest_does_not_name_are_told_and_excluded_ones_are_not(checks, write):
    write("dataset/squats/später.mov", "x")
    write("dataset/sample/squats/1.mp4", "x")
    [manifest] = [check for check in checks(exclude=["squats/0.mp4"]) if check.name == "manifest"]
    assert manifest.ok and manifest.state == "later"
    assert manifest.detail.endswith("1 clip in dataset/ is in no manifest: dataset/squats/später.mov")


def test_a_missing_clip_is_told_with_the_most_similar_name_in_the_folder(checks, write):
    Path("dataset/squats/1.mp4").rename("dataset/squats/01.MP4")
    write("dataset/squats/holiday.mp4", "x")
    text = wrong(checks())["files are there"]
    assert "missing: dataset/squats/1.mp4 (the most similar name in the folder is dataset/squats/01.MP4)" in text


def test_a_model_that_is_not_fetched_and_annotations_that_are_not_made_come_later(checks):
    for path in Path("results/annotations").iterdir():
        path.unlink()
    found = {check.name: check for check in checks(model={"base": "checkpoints/org/model", "video_encoder": None})}
    assert found["model"].state == found["annotations"].state == "later" and wrong(found.values()) == {}
    assert "not here yet: checkpoints/org/model; `snakemake finetune` downloads it" in found["model"].text


@pytest.mark.parametrize("kind", ["near-duplicates", "a recording"])
def test_leakage_across_splits_is_wrong(checks, kind):
    splits = {row["video"]: name for name in ("train", "val", "test") for row in read(f"annotations/qved_{name}.json")}
    of = {split: video for video, split in splits.items()}
    pair = {"clips": [of["train"], of["test"]], "distance": 0.5, "mirrored": False, "same_recording": False}
    leaks = [f"{of['train']} is train and {of['test']} is test"] * 2
    split = {"notices": [], "leaks": leaks if kind == "a recording" else [], "groups": 9, "source": "labels"}
    write_json({"splits": {}, "findings": [], "split": split}, "results/annotations/summary.json")
    write_json([pair] if kind == "near-duplicates" else [], "results/verify/duplicates.json")
    [check] = [check for check in checks() if check.name == "leakage across splits"]
    assert check.state == "WRONG" and "splits.csv" in check.text
    assert ("1 pair of clips" in check.text) != ("2 recordings or persons in several splits" in check.text)
    write_json({"splits": {}, "findings": [], "split": split | {"leaks": []}}, "results/annotations/summary.json")
    write_json([], "results/verify/duplicates.json")
    [check] = [check for check in checks() if check.name == "leakage across splits"]
    assert check.state == "ok" and "no near-duplicates" in check.text


def read(path):
    return read_json(f"results/{path}")


def test_no_gpu_is_a_fault_where_the_fine_tuning_would_stop(checks, monkeypatch):
    def without_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", without_driver)
    assert wrong(checks(allow_cpu=True)) == {}
    remedy = wrong(checks(allow_cpu=False))["GPU"]
    assert "preflight.allow_cpu" in remedy and "--configfile config/tiny.yaml" in remedy


def test_each_fault_is_named_with_its_remedy(checks, write, capsys):
    Path("dataset/squats/0.mp4").unlink()
    found = wrong(checks())
    assert "dataset/squats/0.mp4" in found["files are there"]
    assert "files are there" not in wrong(checks(on_error="leave_out"))
    assert "dataset/squats/0.mp4" in found["annotations"] and "snakemake annotations" in found["annotations"]
    Path("results/annotations/qved_val.json").write_text("[3]")
    assert "qved_val.json, sample 1" in wrong(checks())["annotations"]
    Path("results/verify/report.json").unlink()
    assert "snakemake verify" in wrong(checks())["clips decode in full"]
    assert "preflight.min_free_disk_gb" in wrong(checks(min_free_disk_gb=1e9))["disk"]
    assert "nowhere.json" in wrong(checks(label_files=["nowhere.json"]))["labels"]
    write("dataset/ground_truth.json", {"dataset/squats/0.mp4": "squats - a"})
    assert "8 of 9 clips have no label: dataset/lunges/0.mp4 (no entry)" in wrong(checks())["labels"]
    write("dataset/splits.csv", "clip,split\nsquats/0.mp4,train\nsquats/9.mp4,train\n")
    write("dataset/fine_grained_labels_with_worker_ids.json", {})
    assert "worker_ids.json: contains a dict" in wrong(checks())["persons"]
    [pinned] = [check for check in checks() if check.name == "pinned splits"]
    assert pinned.ok and pinned.detail == "dataset/splits.csv: names 1 of 9 clips"
    write("dataset/splits.csv", "clip,split\nsquats/0.mp4,dev\n")
    assert "splits.csv:2: 'dev' is not a split" in wrong(checks())["pinned splits"]
    write("dataset/ground_truth.json", "[{")
    assert "dataset/ground_truth.json: not valid JSON" in wrong(checks())["labels"]
    Path("dataset/manifest.json").unlink()
    found = checks()
    assert "snakemake manifest" in wrong(found)["manifest"]
    print_checks(found)
    assert " wrong\n" in capsys.readouterr().out


def test_the_page_has_the_checks_and_the_clips_of_each_exercise(checks):
    found = checks()
    report = {"clips": [{"video": "dataset/squats/1.mp4", "verdict": "ok", "problems": []}]}
    page = markdown(found, report, data_root="dataset")
    assert "| ok | labels |" in page and "| squats | 1 |" in page
