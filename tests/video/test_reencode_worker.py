import numpy as np
import pytest

from mobilevideogpt.video.clip_check import check_clip
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.reencode_worker import reencode
from tests.video.corpus import draw, spliced, with_display_matrix

ODD = {
    "pixels": {"sample_aspect_ratio": 2},
    "hdr": {"codec": "libx265", "pix_fmt": "yuv420p10le", "color_trc": 18, "color_primaries": 9, "colorspace": 9},
    "interlaced": {"options": {"x264-params": "tff=1"}},
}


@pytest.mark.parametrize("reason", ODD)
def test_a_re_encoded_clip_is_ok(tmp_path, reason):
    clip, target = draw(tmp_path / "clip.mp4", **ODD[reason]), tmp_path / "new.mp4"
    before = clip.read_bytes()
    assert check_clip(clip)["reencode"] == [reason]
    reencode(clip, target, [reason], fingerprint="of something")
    check = check_clip(target)
    assert (check["verdict"], check["frames"], check["fps"]) == ("ok", 40, 30.0), check["problems"]
    assert (check["width"], check["height"]) == ((128, 48) if reason == "pixels" else (64, 48))
    assert clip.read_bytes() == before


def test_the_new_file_shows_what_the_old_one_did(tmp_path):
    plain = draw(tmp_path / "plain.mp4", size=(64, 48))
    for matrix in [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0), (0, -1, -1, 0)]:
        clip, target = with_display_matrix(plain, tmp_path / "rotated.mp4", matrix), tmp_path / "new.mp4"
        reencode(clip, target, ["decoder"])
        old, new = read_frames(clip)[0].astype(int), read_frames(target)[0]
        assert new.shape == old.shape == ((16, 64, 48, 3) if matrix[0] == 0 else (16, 48, 64, 3))
        assert np.abs(new - old).mean() < 8, matrix


def test_an_oblique_picture_is_rotated(tmp_path):
    clip = with_display_matrix(draw(tmp_path / "clip.mp4"), tmp_path / "oblique.mp4", (1, 1, -1, 1))
    assert check_clip(clip)["reencode"] == ["oblique"]
    reencode(clip, tmp_path / "new.mp4", ["oblique"])
    check = check_clip(tmp_path / "new.mp4")
    assert (check["verdict"], check["width"]) == ("ok", 80)  # (64 + 48) / sqrt(2)


def test_frames_of_changing_size_become_one_size(tmp_path):
    clip = spliced(tmp_path / "clip.mkv", {}, {"size": (96, 64)})
    check = check_clip(clip)
    assert (check["verdict"], check["reencode"]) == ("error", ["size"]), check["problems"]
    reencode(clip, tmp_path / "new.mp4", check["reencode"])
    check = check_clip(tmp_path / "new.mp4")
    assert (check["verdict"], check["width"], check["height"]) == ("ok", 64, 48), check["problems"]


def test_large_frames_are_shrunk(tmp_path):
    reencode(draw(tmp_path / "clip.mp4", frames=2, size=(2400, 1210)), tmp_path / "new.mp4", ["large"])
    check = check_clip(tmp_path / "new.mp4")
    assert (check["width"], check["height"]) == (1920, 968)


def test_a_clip_without_times_of_showing_keeps_its_frames(tmp_path):
    clip = draw(tmp_path / "clip.avi", frames=60, options={"bf": "3", "g": "12"})
    reencode(clip, tmp_path / "new.mp4", ["decoder"])
    old, new = read_frames(clip)[0].astype(int), read_frames(tmp_path / "new.mp4")[0]
    assert np.abs(new - old).mean() < 8
