import shutil
from pathlib import Path

import pytest

from mobilevideogpt.files import file_digest
from mobilevideogpt.video import reencode
from mobilevideogpt.video.clip_check import probe
from mobilevideogpt.video.reencode import normalise_clips
from tests.video.corpus import draw


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
    assert {Path(clip).name: Path(entry["file"]).name for clip, entry in index.items()} == {
        "oblong.mkv": "oblong.mkv.mp4",
        "oblong.mp4": "oblong.mp4",
    }
    for clip, entry in index.items():
        assert entry["of"] == file_digest(clip) and entry["digest"] == file_digest(entry["file"])
        assert probe(entry["file"])["verdict"] == "ok"
    assert digests == {clip: file_digest(clip) for clip in data.root.rglob("*.m*")}

    # only what changed is encoded again
    made = {file: file.stat().st_mtime_ns for file in data.folder.rglob("*.mp4")}
    draw(data.root / "squats/oblong.mp4", sample_aspect_ratio=3)
    data()
    changed = {file.name for file, date in made.items() if file.stat().st_mtime_ns != date}
    assert changed == {"oblong.mp4"}

    # and what nobody asks for any more goes
    shutil.copy(data.root / "squats/good.mp4", data.root / "squats/oblong.mp4")
    data()
    assert [file.name for file in data.folder.rglob("*.mp4")] == ["oblong.mkv.mp4"]


def test_a_clip_that_cannot_be_encoded_is_told_and_leaves_no_file(data, monkeypatch):
    lost = data.root / "squats/oblong.mp4"
    monkeypatch.setattr(reencode, "NORMALISE_TIMES", 1e-9)
    index = data()
    assert "was not re-encoded within" in index[str(lost)]["problem"]
    assert not list(data.folder.rglob("*.mp4"))
