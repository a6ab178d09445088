import shutil

import pytest
from corpus import draw

from mobilevideogpt.files import file_digest
from mobilevideogpt.video import normalised
from mobilevideogpt.video.integrity import probe
from mobilevideogpt.video.normalised import normalise_clips


@pytest.fixture
def data(tmp_path):
    """A data set of three clips, of which two have oblong pixels; returns what normalising it says."""
    root = tmp_path / "dataset"
    (root / "squats").mkdir(parents=True)
    draw(root / "squats/good.mp4")
    draw(root / "squats/oblong.mp4", sample_aspect_ratio=2)
    draw(root / "squats/oblong.mkv", sample_aspect_ratio=2)

    def run(**changes):
        records = [probe(clip) for clip in sorted(root.rglob("*.m*"))]
        given = {"workers": 2, "timeout_seconds": 60, "memory_gb": 4, **changes}
        return normalise_clips(records, root, tmp_path / "normalised", **given)

    run.root, run.folder = root, tmp_path / "normalised"
    return run


def test_clips_that_ask_for_it_get_a_new_file_and_keep_their_own(data):
    digests = {clip: file_digest(clip) for clip in data.root.rglob("*.m*")}
    index = data()
    assert set(index) == {str(data.root / "squats/oblong.mkv"), str(data.root / "squats/oblong.mp4")}
    assert {entry["file"] for entry in index.values()} == {
        str(data.folder / "squats/oblong.mkv.mp4"),
        str(data.folder / "squats/oblong.mp4"),
    }
    for clip, entry in index.items():
        assert entry["of"] == file_digest(clip) and entry["digest"] == file_digest(entry["file"])
        assert probe(entry["file"])["verdict"] == "ok"
    assert digests == {clip: file_digest(clip) for clip in data.root.rglob("*.m*")}


def test_only_what_changed_is_encoded_again(data):
    index = data()
    made = {file: file.stat().st_mtime_ns for file in data.folder.rglob("*.mp4")}
    assert data() == index
    assert made == {file: file.stat().st_mtime_ns for file in data.folder.rglob("*.mp4")}
    draw(data.root / "squats/oblong.mp4", sample_aspect_ratio=3)
    changed = {file for file, date in made.items() if data() and file.stat().st_mtime_ns != date}
    assert changed == {data.folder / "squats/oblong.mp4"}
    data(code="other")
    assert all(file.stat().st_mtime_ns != date for file, date in made.items())


def test_files_that_nobody_asks_for_any_more_go(data):
    data()
    shutil.copy(data.root / "squats/good.mp4", data.root / "squats/oblong.mp4")
    data()
    assert [file.name for file in data.folder.rglob("*.mp4")] == ["oblong.mkv.mp4"]


def test_a_clip_that_cannot_be_encoded_is_told_and_leaves_no_file(data, monkeypatch):
    lost = data.root / "squats/oblong.mp4"
    monkeypatch.setattr(normalised, "NORMALISE_TIMES", 1e-9)
    index = data()
    assert "was not re-encoded within" in index[str(lost)]["problem"]
    assert not list(data.folder.rglob("*.mp4"))
