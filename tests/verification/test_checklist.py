from pathlib import Path

import pynvml
import pytest

from mobilevideogpt.annotations.conversations import build_annotations
from mobilevideogpt.annotations.labels import LabelRecord, join_records
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.samples import unusable
from mobilevideogpt.annotations.splits import assign_splits
from mobilevideogpt.files import write_json
from mobilevideogpt.verification.checklist import markdown, print_checks, read_records, summarise, verify_checks

MEASURES = {"brightness": 100.0, "sharpness": 50.0, "motion": 3.0, "reencode": []}
GOOD = MEASURES | {"video": "dataset/squats/1.mp4", "verdict": "ok", "problems": [], "digest": "a"}
SHORT = GOOD | {
    "video": "dataset/squats/0.mp4",
    "verdict": "warning",
    "problems": ["has 1 frame | take a longer clip"],
    "digest": "b",
}
BAD = GOOD | {
    "video": "dataset/squats/2.mp4",
    "verdict": "error",
    "problems": ["is damaged; copy it again"],
    "digest": None,
    "brightness": None,
}


def test_a_warning_is_counted_and_an_error_is_not_ok():
    report = summarise([GOOD, SHORT])
    assert report["ok"] and [clip["video"] for clip in report["clips"]] == [SHORT["video"], GOOD["video"]]
    assert report["clips"][1] == {
        **{name: GOOD[name] for name in ("video", "verdict", "problems", "digest")},
        "file": GOOD["video"],
    }
    report = summarise([GOOD, BAD, SHORT])
    assert not report["ok"]
    [check] = report["checks"]
    assert check["detail"] == "3 clips: 1 ok, 1 with a warning, 1 with an error"
    assert "dataset/squats/2.mp4" in check["remedy"]
    assert unusable(report) == {"dataset/squats/2.mp4": ["is damaged; copy it again"]}
    assert not summarise([])["ok"]


def test_clips_with_an_error_may_be_left_out_but_not_all():
    report = summarise([GOOD, BAD], on_error="leave_out")
    assert report["ok"] and "1 with an error, which are left out" in report["checks"][0]["detail"]
    assert list(unusable(report)) == [BAD["video"]]
    assert not summarise([BAD], on_error="leave_out")["ok"]


def test_a_clip_out_of_the_bounds_of_quality_is_an_error_and_one_that_was_not_measured_is_not_judged():
    report = summarise([GOOD, SHORT, BAD | {"verdict": "ok", "problems": []}], bounds={"brightness": (101, None)})
    assert list(unusable(report)) == [SHORT["video"], GOOD["video"]]
    assert "brightness 100 is out of the bounds in integrity.brightness" in unusable(report)[GOOD["video"]][0]
    assert summarise([GOOD], bounds={"brightness": (None, None), "motion": (3, 3)})["ok"]


def test_a_re_encoded_file_takes_the_place_of_its_clip_as_long_as_that_is_what_it_was_made_from():
    hung = BAD | {"digest": "c", "reencode": ["decoder"]}
    oblong = SHORT | {"reencode": ["pixels"]}
    new = {
        hung["video"]: {"of": "c", "file": "results/normalised/squats/2.mp4", "digest": "d"},
        oblong["video"]: {"of": "b", "file": "results/normalised/squats/0.mp4", "digest": "e"},
    }
    report = summarise([hung, oblong], normalised=new)
    assert report["ok"]
    assert [(clip["file"], clip["digest"], clip["verdict"]) for clip in report["clips"]] == [
        ("results/normalised/squats/0.mp4", "e", "warning"),
        ("results/normalised/squats/2.mp4", "d", "warning"),
    ]
    assert "pixels that are not square" in report["clips"][0]["problems"][0]
    old = summarise([hung | {"digest": "changed"}], normalised=new)
    assert old["clips"][0]["file"] == hung["video"] and not old["ok"]
    failed = summarise([hung], normalised={hung["video"]: {"of": "c", "problem": "could not be re-encoded"}})
    assert "it could not be re-encoded" in failed["clips"][0]["problems"][1]


def test_the_page_lists_each_clip_that_is_not_simply_well():
    report = summarise([GOOD, BAD, SHORT])
    page = markdown(report["checks"], report)
    assert "| dataset/squats/2.mp4 | error | is damaged; copy it again |" in page
    assert "has 1 frame \\| take a longer clip" in page
    assert "| squats | 3 |" in page
    assert "dataset/squats/1.mp4" not in page


def test_records_are_read_from_files_of_one_and_of_many(write):
    files = [write("results/one.json", GOOD), write("results/many.json", [BAD, SHORT])]
    assert list(read_records(files)) == [GOOD, BAD, SHORT]


@pytest.fixture
def checks(project, write):
    """Nine clips, all well; returns what the checklist says of them now."""
    entries = {f"dataset/{exercise}/{i}.mp4": exercise for exercise in ("squats", "lunges", "rows") for i in range(3)}
    for path in entries:
        write(path, "x")
    clips = read_manifest(write("dataset/manifest.json", entries), "dataset")
    labels = write("dataset/ground_truth.json", {clip.path: "squats - a" for clip in clips})
    write_json(summarise([GOOD | {"video": clip.path} for clip in clips]), "results/verify/report.json")
    records = [LabelRecord(clip.path.removeprefix("dataset/"), ("squats - a",)) for clip in clips]
    matched = join_records(clips, records)
    splits = assign_splits(clips, matched.by_clip, {"train": 0.6, "val": 0.2, "test": 0.2}, 0).by_clip
    for name, rows in build_annotations(clips, matched, splits, prompt_template="Q").items():
        write_json(rows, f"results/annotations/qved_{name}.json")
    return lambda **changes: verify_checks(
        **{"data_root": "dataset", "results": "results", "label_files": [labels], **changes}
    )


def wrong(checks):
    return {check["name"]: f"{check['detail']} {check['remedy']}" for check in checks if not check["ok"]}


def test_the_checklist_of_a_sound_project_fits_on_a_screen(checks, capsys):
    found = checks()
    assert wrong(found) == {}
    print_checks(found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert any("3 exercises, 3 clips each" in line for line in lines)
    assert lines[-1] == "all is well"


def test_clips_that_the_manifest_does_not_name_are_told_and_excluded_ones_are_not(checks, write):
    write("dataset/squats/später.mov", "x")
    write("dataset/sample/squats/1.mp4", "x")
    [manifest] = [check for check in checks(exclude=["squats/0.mp4"]) if check["name"] == "manifest"]
    assert manifest["ok"] and manifest["detail"].endswith("1 others that are there: dataset/squats/später.mov")


def test_no_gpu_is_a_fault_where_the_fine_tuning_would_stop(checks, monkeypatch):
    def without_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", without_driver)
    assert wrong(checks(allow_cpu=True)) == {}
    assert "preflight.allow_cpu" in wrong(checks(allow_cpu=False))["GPU"]


def test_each_fault_is_named_with_its_remedy(checks, write, capsys):
    Path("dataset/squats/0.mp4").unlink()
    found = wrong(checks())
    assert "dataset/squats/0.mp4" in found["files are there"]
    assert "files are there" not in wrong(checks(on_error="leave_out"))
    assert "dataset/squats/0.mp4" in found["annotations"] and "snakemake annotations" in found["annotations"]
    Path("results/annotations/qved_val.json").write_text("[3]")
    assert "qved_val.json, record 1" in wrong(checks())["annotations"]
    Path("results/verify/report.json").unlink()
    assert "snakemake verify" in wrong(checks())["clips decode in full"]
    assert "preflight.min_free_disk_gb" in wrong(checks(min_free_disk_gb=1e9))["disk"]
    assert "nowhere.json" in wrong(checks(label_files=["nowhere.json"]))["labels"]
    write("dataset/ground_truth.json", {"dataset/squats/0.mp4": "squats - a"})
    assert "8 of 9 clips have no label: dataset/lunges/0.mp4 (no record)" in wrong(checks())["labels"]
    write("dataset/splits.csv", "clip,split\nsquats/0.mp4,train\nsquats/9.mp4,train\n")
    write("dataset/fine_grained_labels_with_worker_ids.json", {})
    assert "worker_ids.json: holds a dict" in wrong(checks())["persons"]
    [pinned] = [check for check in checks() if check["name"] == "pinned splits"]
    assert pinned["ok"] and pinned["detail"] == "dataset/splits.csv: speaks of 1 of 9 clips"
    write("dataset/splits.csv", "clip,split\nsquats/0.mp4,dev\n")
    assert "splits.csv:2: 'dev' is no split" in wrong(checks())["pinned splits"]
    write("dataset/ground_truth.json", "[{")
    assert "dataset/ground_truth.json: not valid JSON" in wrong(checks())["labels"]
    Path("dataset/manifest.json").unlink()
    found = checks()
    assert "snakemake manifest" in wrong(found)["manifest"]
    print_checks(found)
    assert "checks are not well" in capsys.readouterr().out
