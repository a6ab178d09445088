import shutil
from pathlib import Path

import pytest

from mobilevideogpt.checksums import sums_are_right, write_sums
from mobilevideogpt.files import file_digest
from mobilevideogpt.video import reencode
from mobilevideogpt.video.clip_check import check_clip
from mobilevideogpt.video.reencode import reencode_clips
from tests.video.corpus import draw


@pytest.fixture
def data(tmp_path):
    """A data set of three clips, two of them with oblong pixels; returns a function that re-encodes it."""
    root = tmp_path / "dataset"
    (root / "squats").mkdir(parents=True)
    draw(root / "squats/good.mp4")
    draw(root / "squats/oblong.mp4", sample_aspect_ratio=2)
    draw(root / "squats/oblong.mkv", sample_aspect_ratio=2)

    def run(**changes):
        checks = [check_clip(clip) for clip in sorted(root.rglob("*.m*"))]
        given = {"workers": 2, "timeout_seconds": 60, "memory_gb": 4, **changes}
        return reencode_clips(checks, root, tmp_path / "reencoded", **given)

    run.root, run.folder = root, tmp_path / "reencoded"
    return run


def test_clips_with_a_reason_get_a_new_file_and_the_originals_stay(data):
    digests = {clip: file_digest(clip) for clip in data.root.rglob("*.m*")}
    index = data()
    assert {Path(clip).name: Path(entry["file"]).name for clip, entry in index.items()} == {
        "oblong.mkv": "oblong.mkv.mp4",
        "oblong.mp4": "oblong.mp4",
    }
    for clip, entry in index.items():
        assert entry["of"] == file_digest(clip) and entry["digest"] == file_digest(entry["file"])
        assert check_clip(entry["file"])["verdict"] == "ok"
    assert digests == {clip: file_digest(clip) for clip in data.root.rglob("*.m*")}

    # only what changed is encoded again
    made = {file: file.stat().st_mtime_ns for file in data.folder.rglob("*.mp4")}
    draw(data.root / "squats/oblong.mp4", sample_aspect_ratio=3)
    data()
    changed = {file.name for file, date in made.items() if file.stat().st_mtime_ns != date}
    assert changed == {"oblong.mp4"}

    # and a file whose clip has no reason any more is deleted
    shutil.copy(data.root / "squats/good.mp4", data.root / "squats/oblong.mp4")
    data()
    assert [file.name for file in data.folder.rglob("*.mp4")] == ["oblong.mkv.mp4"]


def test_a_clip_that_cannot_be_encoded_gets_a_problem_and_no_file(data, monkeypatch):
    lost = data.root / "squats/oblong.mp4"
    monkeypatch.setattr(reencode, "TIMEOUT_FACTOR", 1e-9)
    index = data()
    assert "was not re-encoded within" in index[str(lost)]["problem"]
    assert not list(data.folder.rglob("*.mp4"))


def test_a_damaged_new_file_is_made_again_and_one_of_a_killed_run_is_kept(data):
    index = data()
    write_sums(data.folder)
    first, second = (Path(entry["file"]) for entry in index.values())
    content, made = bytearray(first.read_bytes()), second.stat().st_mtime_ns
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    assert not sums_are_right(data.folder)
    data()
    assert first.read_bytes() != content and second.stat().st_mtime_ns == made
    (data.folder / "SHA256SUMS").unlink()
    made = {file: file.stat().st_mtime_ns for file in (first, second)}
    data()
    assert made == {file: file.stat().st_mtime_ns for file in (first, second)}
