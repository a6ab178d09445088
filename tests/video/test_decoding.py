import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.decoding import VideoInfo, read_frames
from tests.video.corpus import draw, with_display_matrix

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture
def clip(tmp_path):
    """One second of 64 x 32 at 24 frames a second, each frame of its own grey."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.options = {"crf": "0"}
        for i in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((32, 64, 3), 10 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_the_frames_are_those_at_the_positions(clip):
    frames, positions, info = read_frames(clip)
    assert info == VideoInfo(frames=24, fps=24.0, width=64, height=32)
    assert positions == list(range(16))
    assert frames.shape == (16, 32, 64, 3) and frames.dtype == np.uint8
    assert np.abs(frames.mean((1, 2, 3)) - 10 * np.arange(16)).max() < 3


def test_fewer_frames_may_be_asked_for(clip):
    assert read_frames(clip, min_frames=8)[1] == [0, 3, 6, 9, 12, 15, 18, 21]


def test_pixels_of_a_real_clip_are_decoded_to_the_bit():
    golden = json.loads((PARITY / "golden.json").read_text())["pixels_sample_video"]["raw_rgb_frames"]
    frames, positions, _ = read_frames(PARITY / "00000340.mp4")
    for frame, position in zip(frames, positions, strict=True):
        assert hashlib.sha256(frame.tobytes()).hexdigest() == golden[str(position)]["sha256"]


@pytest.mark.parametrize(
    ("matrix", "rotate"),
    [
        ((0, 1, -1, 0), lambda frames: np.rot90(frames, -1, (1, 2))),  # clockwise, as phones do
        ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, (1, 2))),
        ((-1, 0, 0, -1), lambda frames: np.rot90(frames, 2, (1, 2))),
        ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
        ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
        ((0, 1, 1, 0), lambda frames: frames.transpose(0, 2, 1, 3)),
        ((1, 1, -1, 1), lambda frames: frames),  # not a right angle
    ],
)
def test_the_display_matrix_of_a_clip_is_applied(tmp_path, matrix, rotate):
    plain = draw(tmp_path / "plain.mp4", size=(64, 48))
    frames, positions, info = read_frames(with_display_matrix(plain, tmp_path / "rotated.mp4", matrix))
    stored, expected_positions, _ = read_frames(plain)
    assert np.array_equal(frames, rotate(stored)) and frames.flags.c_contiguous
    assert positions == expected_positions
    assert (info.height, info.width) == frames.shape[1:3]


def test_the_picture_is_read_not_the_cover_beside_it(tmp_path):
    plain, path = draw(tmp_path / "plain.mp4", frames=20), tmp_path / "cover.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as sink:
        cover = sink.add_stream("mjpeg", width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        picture = sink.add_stream_from_template(source.streams.video[0])
        sink.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
        sink.mux(cover.encode())
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = picture
                sink.mux(packet)
    assert read_frames(path)[2] == VideoInfo(frames=20, fps=30.0, width=64, height=48)


def test_a_file_that_is_not_a_video_is_named(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with pytest.raises(InputError, match=r"notes\.mp4: does not decode"):
        read_frames(path)


def test_a_truncated_clip_is_named(clip):
    clip.write_bytes(clip.read_bytes()[:300])
    with pytest.raises(InputError, match=r"clip\.mp4: does not decode"):
        read_frames(clip)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.mp4: there is no such file"):
        read_frames(tmp_path / "absent.mp4")
