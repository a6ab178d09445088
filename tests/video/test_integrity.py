import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video import integrity
from mobilevideogpt.video.decoding import read_frames
from mobilevideogpt.video.integrity import FIELDS, probe


def draw(path, frames=40, size=(64, 48), codec="libx264", options=None, audio=False, video=True):
    """Write a small moving picture."""
    with av.open(str(path), "w", options=options or {}) as container:
        picture = (
            container.add_stream(codec, rate=30, width=size[0], height=size[1], pix_fmt="yuv420p") if video else None
        )
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        if picture:
            noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
            for i in range(frames):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(np.roll(noise, i, axis=1), format="rgb24")))
            container.mux(picture.encode())
        if sound:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A whole clip whose index stands first, as on the web."""
    return draw(tmp_path_factory.mktemp("clips") / "good.mp4", options={"movflags": "faststart"})


def test_a_whole_clip_is_ok_and_described(good):
    record = probe(good)
    assert list(record) == list(FIELDS)
    assert (record["verdict"], record["problems"]) == ("ok", [])
    assert (record["frames"], record["frames_declared"], record["fps"], record["codec"]) == (40, 40, 30.0, "h264")
    assert (record["width"], record["height"], record["rotation"]) == (64, 48, 0)
    assert record["seconds"] == pytest.approx(40 / 30, abs=0.05)
    assert record["bytes"] == good.stat().st_size and len(record["digest"]) == 64
    assert probe(good) == record


@pytest.mark.parametrize(("codec", "name"), [("libx265", "hevc"), ("libsvtav1", "av1"), ("libvpx-vp9", "vp9")])
def test_other_codecs_are_ok(tmp_path, codec, name):
    record = probe(draw(tmp_path / "clip.mp4", codec=codec))
    assert (record["verdict"], record["codec"]) == ("ok", name), record["problems"]


def test_sound_beside_the_picture_does_no_harm(tmp_path):
    assert probe(draw(tmp_path / "clip.mp4", audio=True))["verdict"] == "ok"


def test_a_clip_cut_short_is_an_error_wherever_it_is_cut(good, tmp_path):
    whole = good.read_bytes()
    for i in range(1, 10):
        cut = tmp_path / f"{i}.mp4"
        cut.write_bytes(whole[: len(whole) * i // 10])
        record = probe(cut)
        assert record["verdict"] == "error", i
        assert "dataset.exclude" in record["problems"][0]


def test_flipped_bits_are_an_error(good, tmp_path):
    data = bytearray(good.read_bytes())
    for position in range(4000, len(data) - 100, 400):
        data[position] ^= 0x55
    rotten = tmp_path / "rotten.mp4"
    rotten.write_bytes(data)
    record = probe(rotten)
    assert record["verdict"] == "error"
    assert "of 40 frames decode intact" in record["problems"][0]
    assert probe(rotten) == record  # the same words each time: equal records start nothing anew


def test_few_frames_are_a_warning(tmp_path):
    record = probe(draw(tmp_path / "clip.mp4", frames=1))
    assert record["verdict"] == "warning"
    assert "has 1 frame, fewer than the 16" in record["problems"][0]


def test_a_rotation_flag_is_an_error_with_the_command_that_removes_it(good, tmp_path):
    data = bytearray(good.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    turned = tmp_path / "my clip.mp4"
    turned.write_bytes(data)
    record = probe(turned)
    assert (record["verdict"], abs(record["rotation"])) == ("error", 90)
    assert f"ffmpeg -i '{turned}'" in record["problems"][0]
    with pytest.raises(InputError):
        read_frames(turned)  # once this reads it, the flag is no error any more


def test_what_is_no_video_is_an_error(tmp_path):
    made = {
        "there is no video stream": draw(tmp_path / "sound.mp4", video=False, audio=True),
        "Invalid data": tmp_path / "text.mp4",
        "is empty": tmp_path / "empty.mp4",
        "is a directory": tmp_path / "folder.mp4",
        "is a pipe": tmp_path / "pipe.mp4",
        "is not there": tmp_path / "missing.mp4",
        "a link to a file that is not there": tmp_path / "dangling.mp4",
        "cannot be looked at": tmp_path / ("x" * 300 + ".mp4"),
    }
    made["Invalid data"].write_text("no video\n" * 100)
    made["is empty"].touch()
    made["is a directory"].mkdir()
    os.mkfifo(made["is a pipe"])
    made["a link to a file that is not there"].symlink_to(tmp_path / "nowhere.mp4")
    for text, path in made.items():
        record = probe(path, timeout_seconds=20)
        assert record["verdict"] == "error"
        assert text in record["problems"][0]
        assert "dataset.exclude" in record["problems"][0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(good, tmp_path):
    closed = Path(shutil.copy(good, tmp_path / "closed.mp4"))
    closed.chmod(0)
    assert "chmod u+r" in probe(closed)["problems"][0]


def test_a_link_out_of_the_data_set_is_an_error_and_one_within_is_not(good, tmp_path):
    root = tmp_path / "dataset"
    root.mkdir()
    (root / "out.mp4").symlink_to(good)
    shutil.copy(good, root / "real.mp4")
    (root / "in.mp4").symlink_to(root / "real.mp4")
    assert "leads out of" in probe(root / "out.mp4", data_root=root)["problems"][0]
    assert probe(root / "in.mp4", data_root=root)["verdict"] == "ok"


def test_a_playlist_in_disguise_opens_no_other_file(good, tmp_path):
    disguised = tmp_path / "list.mp4"
    disguised.write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    assert probe(disguised)["verdict"] == "error"
    disguised.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{good}\n#EXT-X-ENDLIST\n")
    assert probe(disguised)["verdict"] == "error"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("import time; time.sleep(60)", "was not decoded within 1 s"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed the decoder (signal 11"),
        ("raise SystemExit('no decoder')", "crashed the decoder (exit status 1: no decoder)"),
    ],
)
def test_a_decoder_that_hangs_or_crashes_costs_one_record(good, monkeypatch, body, text):
    run = subprocess.run
    monkeypatch.setattr(
        integrity.subprocess, "run", lambda command, **options: run([sys.executable, "-c", body], **options)
    )
    start = time.monotonic()
    record = probe(good, timeout_seconds=1)
    assert time.monotonic() - start < 10
    assert record["verdict"] == "error" and text in record["problems"][0]
    assert record["digest"]


def test_a_decoder_that_wants_too_much_memory_is_an_error(good):
    record = probe(good, memory_bytes=2**26)
    assert record["verdict"] == "error"
