from pathlib import Path

import pytest

from mobilevideogpt.data.annotations import build_annotations
from mobilevideogpt.data.labels import LabelRecord, join_records
from mobilevideogpt.data.manifest import read_manifest
from mobilevideogpt.data.splits import assign_splits
from mobilevideogpt.data.verification import markdown, print_checks, summarise, verify_checks
from mobilevideogpt.files import write_json

GOOD = {"video": "dataset/squats/1.mp4", "verdict": "ok", "problems": [], "digest": "a"}
SHORT = {
    "video": "dataset/squats/0.mp4",
    "verdict": "warning",
    "problems": ["has 1 frame | take a longer clip"],
    "digest": "b",
}
BAD = {"video": "dataset/squats/2.mp4", "verdict": "error", "problems": ["is damaged; copy it again"], "digest": None}


def test_a_warning_is_counted_and_an_error_is_not_ok():
    report = summarise([GOOD, SHORT])
    assert report["ok"] and report["clips"] == [SHORT, GOOD]
    report = summarise([GOOD, BAD, SHORT])
    assert not report["ok"]
    [check] = report["checks"]
    assert check["detail"] == "3 clips: 1 ok, 1 with a warning, 1 with an error"
    assert "dataset/squats/2.mp4" in check["remedy"]
    assert not summarise([])["ok"]


def test_the_page_lists_each_clip_that_is_not_simply_well():
    page = markdown(summarise([GOOD, BAD, SHORT]))
    assert "| dataset/squats/2.mp4 | error | is damaged; copy it again |" in page
    assert "has 1 frame \\| take a longer clip" in page
    assert "dataset/squats/1.mp4" not in page


@pytest.fixture
def checks(project, write):
    """Nine clips, all well; returns what the checklist says of them now."""
    entries = {f"dataset/{exercise}/{i}.mp4": exercise for exercise in ("squats", "lunges", "rows") for i in range(3)}
    for path in entries:
        write(path, "x")
    clips = read_manifest(write("dataset/manifest.json", entries), "dataset")
    labels = write("dataset/ground_truth.json", [])
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


def test_each_fault_is_named_with_its_remedy(checks, capsys):
    Path("dataset/squats/0.mp4").unlink()
    found = wrong(checks())
    assert "dataset/squats/0.mp4" in found["files are there"]
    assert "dataset/squats/0.mp4" in found["annotations"] and "snakemake annotations" in found["annotations"]
    Path("results/annotations/qved_val.json").write_text("[3]")
    assert "qved_val.json, record 1" in wrong(checks())["annotations"]
    Path("results/verify/report.json").unlink()
    assert "snakemake verify" in wrong(checks())["clips decode in full"]
    assert "preflight.min_free_disk_gb" in wrong(checks(min_free_disk_gb=1e9))["disk"]
    assert "nowhere.json" in wrong(checks(label_files=["nowhere.json"]))["labels"]
    Path("dataset/manifest.json").unlink()
    found = checks()
    assert "snakemake manifest" in wrong(found)["manifest"]
    print_checks(found)
    assert "checks are not well" in capsys.readouterr().out
