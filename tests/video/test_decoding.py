import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.decoding import VideoInfo, read_frames

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
    recorded = json.loads((PARITY / "golden.json").read_text())["pixels_sample_video"]["raw_rgb_frames"]
    frames, positions, _ = read_frames(PARITY / "00000340.mp4")
    for frame, position in zip(frames, positions, strict=True):
        assert hashlib.sha256(frame.tobytes()).hexdigest() == recorded[str(position)]["sha256"]


def test_a_file_that_is_no_video_is_named(tmp_path):
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
