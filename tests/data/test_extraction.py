import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import psutil
import pytest
import torch

from mobilevideogpt.data.encoding import FEATURES
from mobilevideogpt.data.extraction import extract_features
from mobilevideogpt.data.feature_files import feature_key, missing_features
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.video.decoding_pool import DecodingPool
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.pixels import VIDEO_MEAN, VIDEO_STD
from tests.data.one_colour import one_colour
from tests.tiny import tiny_config

READ = partial(clip_frames, min_frames=16, max_frames=16)
CLIP = str(Path(__file__).parents[1] / "parity/00000340.mp4")
SETTINGS = {"dtype": "float16", "frames": 16}


class Encoders(torch.nn.Module):
    """A double of the model: counts the clips that it encodes, and runs out of memory above ``room`` at a time."""

    config = SimpleNamespace(
        num_frames=16, feature_shapes={"video_features": (2, 4, 3), "context_features": (16, 4, 5)}
    )

    def __init__(self, scale=1.0, room=100):
        super().__init__()
        self.scale, self.room, self.seen = scale, room, 0

    def encode_video(self, pixel_values_videos, pixel_values_context, output_scores):
        if len(pixel_values_videos) > self.room:
            raise torch.OutOfMemoryError
        self.seen += len(pixel_values_videos)
        levels = (pixel_values_videos[:, 0, 0, 0, 0] * VIDEO_STD[0] + VIDEO_MEAN[0]) * 255
        colour = levels.round()[:, None, None, None] * self.scale
        return colour.expand(-1, 2, 4, 3), colour.expand(-1, 16, 4, 5), colour.float().expand(-1, 16, 1, 1).flatten(1)


def extract(
    store, clips, model=None, dtype="float16", batch_size=2, encoders_digest="e", read=one_colour, workers=2, **options
):
    """Compute what is missing; return the key of each clip and the number of clips that were encoded."""
    model = model or Encoders()
    settings = {"dtype": dtype, "frames": 16}
    keys = {path: feature_key(digest, encoders_digest, settings) for path, digest in clips.items()}
    if missing := missing_features(store.folder, keys):
        options = {"dtype": dtype, "batch_size": batch_size, "progress": False} | options
        with DecodingPool(workers) as readers:
            frames = readers.map_ahead(read, [(path, clips[path]) for path in missing.values()], batch_size + workers)
            extract_features(model, frames, missing, store, **options)
    return keys, getattr(model, "seen", None)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def test_each_clip_is_encoded_once_and_in_its_own_place(store):
    clips = {f"{i}.mp4": f"digest {i}" for i in range(7)}
    keys, seen = extract(store, clips)
    assert seen == 7
    for path, key in keys.items():
        features = store.read(key)
        assert features["video_features"].shape == (2, 4, 3) and features["context_features"].shape == (16, 4, 5)
        assert features["video_features"].dtype == torch.float16
        assert features["video_features"].unique().tolist() == [float(path.split(".")[0])]
    assert extract(store, clips) == (keys, 0)
    assert extract(store, clips | {"9.mp4": "new"})[1] == 1
    assert extract(store, clips, encoders_digest="other")[1] == 7
    assert extract(store, clips, dtype="float32")[1] == 7


def test_the_result_does_not_depend_on_the_batch_size(tmp_path):
    clips = {f"{i}.mp4": str(i) for i in range(5)}
    for size in (1, 3, 8):
        store = FeatureStore(tmp_path / str(size))
        keys, _ = extract(store, clips, batch_size=size)
        assert [float(store.read(keys[path])["video_features"][0, 0, 0]) for path in clips] == [0, 1, 2, 3, 4]


def test_clips_of_equal_content_share_their_features(store):
    keys, seen = extract(store, {"1.mp4": "same", "2.mp4": "same"})
    assert seen == 1 and keys["1.mp4"] == keys["2.mp4"]


def test_damaged_features_are_computed_anew_after_they_were_read(store):
    keys, _ = extract(store, {"3.mp4": "c"})
    path = store.path(keys["3.mp4"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError):
        store.read(keys["3.mp4"])
    assert extract(store, {"3.mp4": "c"})[1] == 1
    assert store.read(keys["3.mp4"])["video_features"].max() == 3


def test_a_file_that_is_cut_short_is_computed_anew_without_being_read(store, caplog):
    keys, _ = extract(store, {"3.mp4": "c", "4.mp4": "d"})
    path = store.path(keys["3.mp4"])
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert extract(store, {"3.mp4": "c", "4.mp4": "d"})[1] == 1
    assert f"{path}: damaged" in caplog.text


def test_too_large_a_batch_is_halved_until_it_fits_and_that_is_logged(store, caplog):
    keys, seen = extract(store, {f"{i}.mp4": str(i) for i in range(11)}, model=Encoders(room=2), batch_size=8)
    assert seen == 11
    assert "its batch size is now 4 clips" in caplog.text and "now 2 clips" in caplog.text
    assert all(store.read(key)["video_features"].max() == int(path.split(".")[0]) for path, key in keys.items())
    with pytest.raises(torch.OutOfMemoryError):
        extract(store, {"20.mp4": "20"}, model=Encoders(room=0))


def test_a_clip_that_fails_keeps_what_came_before(store):
    clips = {"1.mp4": "1", "2.mp4": "2", "broken.mp4": "3"}
    with pytest.raises(InputError, match=r"broken\.mp4"):
        extract(store, clips)
    assert extract(store, {path: digest for path, digest in clips.items() if path != "broken.mp4"})[1] == 0
    assert not list(store.folder.rglob(".*"))  # nothing half-written


def test_a_killed_decoding_worker_is_an_error_that_keeps_what_came_before(store):
    clips = {"1.mp4": "1", "2.mp4": "2", "killer.mp4": "3"}
    with pytest.raises(InputError, match="a process that decodes clips was killed, most likely because memory ran out"):
        extract(store, clips, batch_size=1, workers=1)
    assert extract(store, {"1.mp4": "1", "2.mp4": "2"})[1] == 0


def test_no_decoding_worker_outlives_the_extraction(store):
    extract(store, {"1.mp4": "1"})
    with pytest.raises(InputError):
        extract(store, {"broken.mp4": "2", "3.mp4": "3"})
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [line for line in children if "loky" in line and "tracker" not in line] == []


def test_no_decoding_worker_outlives_a_process_that_is_killed(tmp_path):
    program = (
        "import sys; from tests.data.test_extraction import FeatureStore, extract\n"
        "extract(FeatureStore(sys.argv[1]), {path: path for path in sys.argv[2:]})"
    )
    clips = [tmp_path / "hangs.mp4", tmp_path / "hangs too.mp4"]
    command = [sys.executable, "-c", program, str(tmp_path / "features"), *map(str, clips)]
    extracting = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    while not all(clip.exists() for clip in clips):
        assert extracting.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(extracting.pid).children()
    extracting.kill()
    extracting.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_a_clip_that_changed_since_it_was_checked_gets_no_features(store):
    with pytest.raises(InputError, match=r"340\.mp4: the file changed after it was checked; run the same command"):
        extract(store, {CLIP: "another"}, read=READ)
    assert not list(store.folder.rglob("*.safetensors"))
    extract(store, {CLIP: file_digest(CLIP)}, read=READ)
    assert list(store.folder.rglob("*.safetensors"))


def test_too_little_space_is_an_error_before_anything_is_written(store, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 10**6, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"the features of 3 clips take 0\.00 GB, but 0\.00 GB are free; free some"):
        extract(store, {"1.mp4": "1", "2.mp4": "2", "3.mp4": "3"}, model := Encoders())
    assert model.seen == 0 and not list(store.folder.rglob("*.safetensors"))


def test_features_that_overflow_the_number_format_are_refused(store):
    with pytest.raises(InputError, match=r"2\.mp4: non-finite features in float16; set features\.dtype"):
        extract(store, {"2.mp4": "2"}, model=Encoders(scale=1e5))
    extract(store, {"2.mp4": "2"}, model=Encoders(scale=1e5), dtype="bfloat16")


def test_the_predicted_size_is_that_on_the_disk(store, monkeypatch):
    free = namedtuple("usage", "total used free")
    encoders = Encoders()
    encoders.config = MobileVideoGPTConfig(num_hidden_layers=1)
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in encoders.config.feature_shapes.items()}
    store.write("abc", tensors)
    size = store.path("abc").stat().st_size
    for there, fits in ((size + 4096, True), (size - 4096, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, there=there: free(there, 0, there))
        if fits:
            extract(store, {"1.mp4": "1"}, encoders)
        else:
            with pytest.raises(InputError, match=r"the features of 1 clips take 0\.01 GB"):
                extract(store, {"2.mp4": "2"}, encoders)


@pytest.fixture(scope="module")
def noisy_clips(tmp_path_factory):
    """Path to SHA-256 of three small clips that differ."""
    clips = {}
    for seed in range(3):
        path = str(tmp_path_factory.getbasetemp() / f"noisy-{seed}.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=30, width=64, height=48, pix_fmt="yuv420p")
            noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
            for i in range(20):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, i, axis=1), format="rgb24")))
            container.mux(stream.encode())
        clips[path] = file_digest(path)
    return clips


def test_stored_features_are_those_of_the_real_encoders(store, noisy_clips):
    clips = noisy_clips
    torch.manual_seed(0)
    model = MobileVideoGPTForConditionalGeneration(tiny_config()).eval()
    processor = MobileVideoGPTProcessor(SimpleNamespace(get_vocab=dict))  # no text is encoded here
    keys, _ = extract(store, clips, model, dtype="float32", read=READ)
    for path in clips:
        pixels = {name: value[None] for name, value in processor.encode_video(path).items()}
        with torch.no_grad():
            expected = dict(zip(FEATURES, model.encode_video(**pixels), strict=True))
        for name, tensor in store.read(keys[path]).items():
            torch.testing.assert_close(tensor, expected[name][0].float(), rtol=1e-4, atol=1e-5)


def test_several_devices_encode_at_the_same_time_and_give_the_features_of_one_to_the_bit(tmp_path, noisy_clips):
    torch.manual_seed(0)
    model = MobileVideoGPTForConditionalGeneration(tiny_config()).eval()
    one, two = FeatureStore(tmp_path / "one"), FeatureStore(tmp_path / "two")
    keys, _ = extract(one, noisy_clips, model, batch_size=1, read=READ)
    extract(two, noisy_clips, model, batch_size=1, read=READ, devices=["cpu", "cpu"])
    for key in keys.values():
        other = two.read(key)
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.read(key).items())
        assert torch.equal(one.read_scores(key), two.read_scores(key))


class Meeting(Encoders):
    """Encoders that encode only once those of the other device do, too."""

    def __init__(self, broken_at=None):
        super().__init__()
        self.barrier, self.broken_at = threading.Barrier(2, timeout=60), broken_at

    def __deepcopy__(self, memo):
        return self

    def encode_video(self, **pixels):
        self.barrier.wait()
        encoded = super().encode_video(**pixels)
        if encoded[-1].max() == self.broken_at:
            raise torch.OutOfMemoryError("of this device")
        return encoded


def test_the_devices_share_a_small_set_among_each_other(store):
    keys, seen = extract(store, {"1.mp4": "1", "2.mp4": "2"}, Meeting(), batch_size=8, devices=["cpu", "cpu"])
    assert seen == 2 and [float(store.read(key)["video_features"].max()) for key in keys.values()] == [1, 2]


def test_an_error_on_one_device_ends_all_and_keeps_what_came_before(store):
    clips = {f"{i}.mp4": str(i) for i in range(1, 9)}
    with pytest.raises(torch.OutOfMemoryError, match="of this device"):
        extract(store, clips, Meeting(broken_at=4), batch_size=1, devices=["cpu", "cpu"])
    missing = missing_features(store.folder, {p: feature_key(d, "e", SETTINGS) for p, d in clips.items()})
    assert {"1.mp4", "2.mp4"}.isdisjoint(missing.values()) and {"4.mp4", "7.mp4", "8.mp4"} <= set(missing.values())


class Interrupting(Encoders):
    """Encoders during whose first batch the user presses Ctrl-C."""

    def __deepcopy__(self, memo):
        return self

    def encode_video(self, **pixels):
        if not self.seen:
            self.seen += 1
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(1)
        return super().encode_video(**pixels)


def test_ctrl_c_ends_the_wait_for_several_devices(store):
    # A shell that starts the tests in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        extract(store, {f"{i}.mp4": str(i) for i in range(9)}, Interrupting(), batch_size=1, devices=["cpu", "cpu"])
    signal.signal(signal.SIGINT, before)
    assert len(list(store.folder.rglob("*.safetensors"))) < 9
