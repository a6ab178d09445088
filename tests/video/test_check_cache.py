import json
import os
import shutil
from pathlib import Path

import pytest

from mobilevideogpt.files import file_digest
from mobilevideogpt.video.check_cache import check_with_cache


class Checker:
    """A double of `check_clips`: a clip is ok unless its text says otherwise; lists the clips that it checked."""

    def __init__(self):
        self.seen = []

    def __call__(self, paths):
        for path in paths:
            self.seen.append(path)
            there = os.path.exists(path)
            bad = not there or "bad" in Path(path).read_text()
            yield path, {"video": path, "verdict": "error" if bad else "ok", "digest": there and file_digest(path)}


@pytest.fixture
def clips(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.mp4").write_text(f"clip {i}")
    return [str(tmp_path / f"{i}.mp4") for i in range(20)]


@pytest.fixture
def check(clips, tmp_path):
    def run(paths=clips, checker="a"):
        double = Checker()
        checks = check_with_cache(paths, tmp_path / "cache", checker, double)
        assert [one["video"] for one in checks] == paths
        return double.seen

    return run


def test_only_what_is_new_or_changed_is_decoded(check, clips):
    assert check(clips[:10]) == clips[:10]
    assert check() == clips[10:]
    assert check() == []
    with open(clips[3], "w") as file:
        file.write("clip X")  # as long as before
    assert check() == [clips[3]]
    assert check() == []


def test_a_clip_that_was_touched_or_restored_is_not_decoded(check, clips, tmp_path):
    check()
    os.utime(clips[0])
    shutil.copy(clips[1], tmp_path / "other")
    os.replace(tmp_path / "other", clips[1])
    assert check() == []


def test_a_clip_replaced_by_one_of_the_same_size_and_date_is_decoded(check, clips, tmp_path):
    check()
    status = os.stat(clips[0])
    (tmp_path / "other").write_text("clip Y")
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(tmp_path / "other", clips[0])
    assert check() == [clips[0]]


def test_another_checker_decodes_all(check, clips):
    check()
    assert check(checker="b") == clips


def test_errors_and_missing_clips_are_not_cached(check, clips):
    with open(clips[5], "w") as file:
        file.write("bad")
    os.unlink(clips[6])
    check()
    assert check() == clips[5:7]


def test_a_damaged_cache_is_made_anew(check, clips, tmp_path):
    check()
    files = list((tmp_path / "cache").glob("*.json"))
    cached = json.loads(files[0].read_text())["clips"]
    files[0].write_text("{")
    assert sorted(check()) == sorted(cached)
    assert check() == []


def test_clips_decoded_before_a_failure_are_cached(check, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("mobilevideogpt.video.check_cache.SAVE_SECONDS", 0)

    def failing(paths):
        for i, found in enumerate(Checker()(paths)):
            if i == 12:
                raise KeyboardInterrupt
            yield found

    with pytest.raises(KeyboardInterrupt):
        check_with_cache(clips, tmp_path / "cache", "a", failing)
    assert check() == clips[12:]
