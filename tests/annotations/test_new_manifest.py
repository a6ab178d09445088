from pathlib import Path

import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.findings import Code
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.new_manifest import build_manifest, write_manifest
from mobilevideogpt.errors import InputError

MANIFEST = "dataset/manifest.json"


def test_a_manifest_is_built_from_folders_and_labels(project, write):
    names = "squats/1.mp4 squats/2.MP4 squats/{3}.mp4 squats/notes.txt squats/.4.mp4 short_clips/9.mkv lunges/8.mov"
    for name in [*names.split(), "5.mp4", "squats/deep/6.mp4", "sample/squats/7.mp4", "lunges/folder.mp4/x"]:
        write(f"dataset/{name}", "x")
    write("outside/1.mp4", "x")
    Path("dataset/squats/link.mp4").symlink_to(project / "outside/1.mp4")
    Path("dataset/linked").symlink_to(project / "outside")
    labels = [
        {"video_path": "./1.mp4", "labels": ["squats - good"]},
        {"video_path": "squats/2.MP4", "labels": ["squats - good"]},
        {"video_path": "9.mp4", "labels": ["push ups - good"]},
        {"video_path": "77.mp4", "labels": ["push ups - good"]},
    ]
    new = build_manifest("dataset", ["dataset/none.json", write("dataset/labels.json", labels)])
    assert new.label_file == "dataset/labels.json"
    assert new.entries == {
        "dataset/short_clips/9.mkv": "push_ups",
        "dataset/squats/1.mp4": "squats",
        "dataset/squats/2.MP4": "squats",
    }
    found = {row["code"]: row["items"] for row in new.findings.summary()}
    assert [item.split()[0] for item in found.pop(Code.LABEL_WITHOUT_CLIP)] == ["77.mp4"]
    assert found.pop(Code.MATCHED_BY_NAME) == ["dataset/squats/1.mp4", "dataset/short_clips/9.mkv"]
    assert found == {
        Code.WITHOUT_LABEL: ["dataset/lunges/8.mov"],
        Code.MISPLACED: ["dataset/5.mp4", "dataset/squats/deep/6.mp4"],
        Code.NOT_A_FILE: ["dataset/lunges/folder.mp4"],
        Code.LINK_OUTSIDE: ["dataset/linked", "dataset/squats/link.mp4"],
        Code.UNUSABLE_NAME: ["dataset/squats/{3}.mp4"],
        Code.OTHER_SUFFIX: ["dataset/short_clips/9.mkv (9.mp4)"],
    }
    lines = write_manifest("dataset", ["dataset/labels.json"])
    assert "dataset/labels.json: 1 labels have no clip here" in lines
    assert "left out, 1: clips without a label\n  dataset/lunges/8.mov" in lines


def test_the_whole_data_set_may_lie_elsewhere(project, write):
    write("disk/squats/1.mp4", "x")
    Path("dataset").rmdir()
    Path("dataset").symlink_to(project / "disk")
    assert "1 clips" in write_manifest("dataset", [])


def test_a_written_manifest_reads_back_and_is_never_overwritten(write):
    write("dataset/squats/1.mp4", "x")
    assert "1 clips" in write_manifest("dataset", [])
    before = Path(MANIFEST).read_bytes()
    assert read_manifest(MANIFEST, "dataset") == [Clip("dataset/squats/1.mp4", "squats")]
    with pytest.raises(InputError, match="exists already"):
        write_manifest("dataset", [])
    assert Path(MANIFEST).read_bytes() == before


def test_a_folder_without_clips_gives_no_manifest(project):
    with pytest.raises(InputError, match=r"dataset: found no clip; put clips at dataset/<exercise>/<clip>\.mp4"):
        write_manifest("dataset", [])
    assert not Path(MANIFEST).exists()
