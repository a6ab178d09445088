import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.clip_check import check_clip
from mobilevideogpt.video.clip_status import LARGEST_DIFFERENCE
from mobilevideogpt.video.decoding import count_packets, read_frames
from mobilevideogpt.video.frame_reader import model_frames
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.reencode_worker import reencode
from tests.video.corpus import ALTERNATE_REFERENCE, camera_clip, draw, good_clips, truncated, unusual_clips

PARITY = Path(__file__).parents[1] / "parity"


def both(path):
    """Return the model's frames of a clip, and those of a player."""
    return np.stack(list(model_frames(path, 16, 16))), read_frames(path)[0]


def test_pixels_of_a_real_clip_are_those_of_the_original_code_to_the_bit():
    golden = json.loads((PARITY / "golden.json").read_text())["pixels_sample_video"]["raw_rgb_frames"]
    digests = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in model_frames(PARITY / "00000340.mp4", 16, 16)]
    assert digests == [golden[str(position)]["sha256"] for position in range(0, 144, 9)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    paths = unusual_clips(tmp_path_factory.mktemp("unusual"), large=(1920, 1080))
    return {path.stem: path for path in paths}


def test_the_model_sees_what_a_player_shows_or_the_clip_has_a_warning_that_says_so(clips):
    for name, path in clips.items():
        read, shown = both(path)
        difference = np.abs(read.astype(int) - shown).mean()
        found = "difference" in check_clip(path)["reencode"]
        assert found == (name in ("rotated_mirrored", "ten_bit")), name
        assert (difference > LARGEST_DIFFERENCE) == found, name
        assert found or difference == 0, name


@pytest.mark.parametrize("name", ["rotated_mirrored", "ten_bit"])
def test_re_encoding_removes_the_difference(clips, tmp_path, name):
    check, target = check_clip(clips[name]), tmp_path / "new.mp4"
    assert check["reader_difference"] > 1 and "looks different to the model" in check["problems"][0]
    reencode(clips[name], target, check["reencode"])
    assert check_clip(target)["verdict"] == "ok"
    read, shown = both(target)
    assert np.array_equal(read, shown)


@pytest.mark.parametrize(
    ("name", "frames", "seekable"),
    [
        ("index_first", 40, True),
        ("groups", 90, True),
        ("open_groups", 90, False),  # decord counts leading frames to the wrong side of a key frame
        ("b_frames", 90, False),  # AVI
        ("edited", 31, False),  # the edit list hides nine frames
        ("alternate_reference", 60, False),
    ],
)
def test_the_frames_that_are_shown_are_counted(clips, name, frames, seekable):
    path = clips[name].with_suffix(".avi") if name == "b_frames" else clips[name]
    packets = count_packets(path)
    assert (packets.frames, packets.seekable) == (frames, seekable)
    assert check_clip(path)["frames"] == frames


def test_alternate_references_are_no_damage():
    check = check_clip(ALTERNATE_REFERENCE)
    assert (check["verdict"], check["frames"], check["problems"]) == ("ok", 60, [])


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_clip_with_data_that_pyav_has_no_name_for_is_read(tmp_path, orientation):
    clip = camera_clip(tmp_path / "camera.mov", orientation=orientation)
    shown = read_frames(clip)[0]
    assert shown.shape[1:3] == ((64, 48) if orientation == 6 else (48, 64))
    check = check_clip(clip)
    assert check["verdict"] == ("warning" if orientation == 6 else "ok"), check["problems"]
    reencode(clip, tmp_path / "new.mp4", check["reencode"])
    assert check_clip(tmp_path / "new.mp4")["verdict"] == "ok"


@pytest.mark.parametrize("width", [1, 2, 16, 33, 48, 63, 64, 65])
def test_narrow_frames_are_read(tmp_path, width):
    read, shown = both(draw(tmp_path / "narrow.mp4", frames=16, size=(width, 9), pix_fmt="yuv444p"))
    assert np.array_equal(read, shown)


@pytest.mark.parametrize("name", ["a:b.mp4", "Ünï çödé.mp4", "-i.mp4", "50%20off.mp4", "f%03d.mp4", "a b?.mp4#x.mp4"])
def test_any_file_name_is_a_file_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / name, frames=16)
    read, shown = both(name)
    assert np.array_equal(read, shown)
    assert check_clip(name)["verdict"] == "ok"


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:2,\nfile:{clip}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{clip}'\n"]
)
def test_a_list_of_files_opens_none_of_them(tmp_path, text):
    clip, disguised = good_clips(tmp_path)["first"], tmp_path / "list.mp4"
    disguised.write_text(text.format(clip=clip))
    with pytest.raises(InputError, match=r"list\.mp4: does not decode"):
        list(model_frames(disguised, 16, 16))
    assert check_clip(disguised)["verdict"] == "error"


def test_the_name_of_a_sequence_of_pictures_opens_none_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    camera_clip(tmp_path / "f%03d.mov", frames=1)
    for i in range(3):
        camera_clip(tmp_path / f"f{i:03}.mov", frames=16)
    assert check_clip("f%03d.mov")["frames"] == 1


@pytest.mark.parametrize("suffix", [".ts", ".gif", ".m2v"])
def test_other_containers_are_named_with_those_that_are_read(tmp_path, suffix):
    codec = {".ts": "libx264", ".gif": "gif", ".m2v": "mpeg2video"}[suffix]
    clip = draw(tmp_path / f"clip{suffix}", codec=codec, pix_fmt="rgb8" if codec == "gif" else "yuv420p")
    clip = clip.rename(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match="none of MP4, MOV, Matroska, WebM and AVI"):
        list(model_frames(clip, 16, 16))
    assert "none of MP4, MOV, Matroska, WebM and AVI" in check_clip(clip)["problems"][0]


def test_an_error_of_decord_is_the_same_each_time(tmp_path):
    clip, messages = good_clips(tmp_path)["first"], []
    for i in range(20, 40):
        cut = truncated(clip, tmp_path / "cut.mp4", i / 41)
        try:
            list(model_frames(cut, 16, 16))
        except InputError as error:
            messages.append(str(error))
    assert any("decord fails: Check failed" in message for message in messages)
    assert not any(re.search(r"[0-9]:[0-9]{2}:[0-9]{2}|\.cc", message) for message in messages), messages


def test_a_clip_that_is_cut_or_missing_is_named(tmp_path):
    clip = good_clips(tmp_path)["first"]
    clip.write_bytes(clip.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"index_first\.mp4: does not decode"):
        list(model_frames(clip, 16, 16))
    with pytest.raises(InputError, match=r"absent\.mp4: there is no such file"):
        list(model_frames(tmp_path / "absent.mp4", 16, 16))


PEAK = """
import resource, sys
from mobilevideogpt.video.frames import clip_frames
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
clip_frames(sys.argv[1], None, 16, 16)
before = peak()
clip_frames(sys.argv[2], None, 16, 16)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the unit of ru_maxrss differs")
def test_memory_is_that_of_a_few_frames(tmp_path):
    options = {"preset": "ultrafast", "bf": "0", "rc-lookahead": "0"}
    small = draw(tmp_path / "small.mp4", frames=16)
    large = draw(tmp_path / "large.mp4", frames=16, size=(2560, 1440), options=options)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 10 * (2560 * 1440 * 3)


def test_a_process_that_was_forked_after_reading_reads(tmp_path):
    clip = str(draw(tmp_path / "clip.mp4"))
    expected = clip_frames(clip, None, 16, 16)
    child = os.fork()
    if child == 0:
        again = clip_frames(clip, None, 16, 16)
        os._exit(0 if all(np.array_equal(again[name], expected[name]) for name in expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
