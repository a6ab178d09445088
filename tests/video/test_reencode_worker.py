import shutil

import numpy as np
import pytest

from mobilevideogpt.video.clip_check import probe
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.reencode_worker import reencode
from tests.video.corpus import draw, turned

ODD = {
    "pixels": {"sample_aspect_ratio": 2},
    "hdr": {"codec": "libx265", "pix_fmt": "yuv420p10le", "color_trc": 18, "color_primaries": 9, "colorspace": 9},
    "interlaced": {"options": {"x264-params": "tff=1"}},
}


@pytest.mark.parametrize("need", ODD)
def test_a_clip_that_was_shown_wrongly_is_well_afterwards(tmp_path, need):
    clip, target = draw(tmp_path / "clip.mp4", **ODD[need]), tmp_path / "new.mp4"
    before = clip.read_bytes()
    assert probe(clip)["reencode"] == [need]
    reencode(clip, target, [need], mark="of something")
    record = probe(target)
    assert (record["verdict"], record["frames"], record["fps"]) == ("ok", 40, 30.0), record["problems"]
    assert (record["width"], record["height"]) == ((128, 48) if need == "pixels" else (64, 48))
    assert clip.read_bytes() == before


def test_what_the_new_file_shows_is_what_the_old_one_did(tmp_path):
    plain = draw(tmp_path / "plain.mp4", size=(64, 48))
    for matrix in [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0), (0, -1, -1, 0)]:
        clip, target = turned(plain, tmp_path / "turned.mp4", matrix), tmp_path / "new.mp4"
        reencode(clip, target, ["decoder"])
        old, new = read_frames(clip)[0].astype(int), read_frames(target)[0]
        assert new.shape == old.shape == ((16, 64, 48, 3) if matrix[0] == 0 else (16, 48, 64, 3))
        assert np.abs(new - old).mean() < 8, matrix


def test_an_oblique_picture_is_turned(tmp_path):
    clip = turned(draw(tmp_path / "clip.mp4"), tmp_path / "oblique.mp4", (1, 1, -1, 1))
    assert probe(clip)["reencode"] == ["oblique"]
    reencode(clip, tmp_path / "new.mp4", ["oblique"])
    record = probe(tmp_path / "new.mp4")
    assert (record["verdict"], record["width"]) == ("ok", 80)  # (64 + 48) / sqrt(2)


def test_frames_of_changing_size_become_one_size(tmp_path):
    small, large = (
        draw(tmp_path / "small.m2v", codec="mpeg2video"),
        draw(tmp_path / "large.m2v", codec="mpeg2video", size=(96, 64)),
    )
    with open(small, "ab") as file, open(large, "rb") as more:
        shutil.copyfileobj(more, file)
    record = probe(small)
    assert (record["verdict"], record["reencode"]) == ("error", ["size"]), record["problems"]
    reencode(small, tmp_path / "new.mp4", record["reencode"])
    record = probe(tmp_path / "new.mp4")
    assert (record["verdict"], record["width"], record["height"]) == ("ok", 64, 48), record["problems"]


def test_large_frames_are_shrunk(tmp_path):
    reencode(draw(tmp_path / "clip.mp4", frames=2, size=(2400, 1210)), tmp_path / "new.mp4", ["large"])
    record = probe(tmp_path / "new.mp4")
    assert (record["width"], record["height"]) == (1920, 968)
