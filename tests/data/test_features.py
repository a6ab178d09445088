import logging
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import psutil
import pytest
import torch

from mobilevideogpt.data.features import NAMES, FeatureStore, extract_features, feature_key
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.video.pixels import VIDEO_MEAN, VIDEO_STD
from tests.data.one_colour import one_colour

CLIP = str(Path(__file__).parents[1] / "parity/00000340.mp4")
SETTINGS = {"dtype": "float16", "frames": 16}


class Encoders(torch.nn.Module):
    """Keeps to the model's interface; counts the clips that it sees, and takes no more than ``room`` at a time."""

    config = SimpleNamespace(
        num_frames=16, feature_shapes={"video_features": (2, 4, 3), "context_features": (16, 4, 5)}
    )

    def __init__(self, scale=1.0, room=100):
        super().__init__()
        self.scale, self.room, self.seen = scale, room, 0

    def encode_video(self, pixel_values_videos, pixel_values_context):
        if len(pixel_values_videos) > self.room:
            raise torch.OutOfMemoryError
        self.seen += len(pixel_values_videos)
        levels = (pixel_values_videos[:, 0, 0, 0, 0] * VIDEO_STD[0] + VIDEO_MEAN[0]) * 255
        colour = levels.round()[:, None, None, None] * self.scale
        return colour.expand(-1, 2, 4, 3), colour.expand(-1, 16, 4, 5)


def extract(store, clips, model=None, settings=SETTINGS, batch_size=2, encoder="e", workers=2):
    model = model or Encoders()
    arguments = (model, one_colour, clips, store, encoder, settings, batch_size, "cpu", workers)
    keys = extract_features(*arguments, progress=False)
    return keys, model.seen


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def test_the_key_depends_on_clip_encoder_and_settings_only():
    key = feature_key("c", "e", {"dtype": "float16", "frames": 16})
    assert key == feature_key("c", "e", {"frames": 16, "dtype": "float16"})
    others = {feature_key("d", "e", SETTINGS), feature_key("c", "f", SETTINGS), feature_key("c", "e", {"frames": 8})}
    assert len(others | {key}) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_written_reads_back_bit_by_bit(store, dtype):
    tensors = {"video_features": torch.randn(3, 2, 4, 3, dtype=dtype)[1], "context_features": torch.randn(16, 4, 5)}
    store.write("abc", tensors)
    assert "abc" in store and "abd" not in store
    assert store.path("abc").parent.name == "ab"
    for name, tensor in store.read("abc").items():
        assert torch.equal(tensor, tensors[name]) and tensor.dtype == tensors[name].dtype


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
    assert extract(store, clips, encoder="other")[1] == 7
    assert extract(store, clips, settings=SETTINGS | {"dtype": "float32"})[1] == 7


def test_the_result_does_not_depend_on_the_batch_size(tmp_path):
    clips = {f"{i}.mp4": str(i) for i in range(5)}
    for size in (1, 3, 8):
        store = FeatureStore(tmp_path / str(size))
        keys, _ = extract(store, clips, batch_size=size)
        assert [float(store.read(keys[path])["video_features"][0, 0, 0]) for path in clips] == [0, 1, 2, 3, 4]


def test_clips_of_equal_content_share_their_features(store):
    keys, seen = extract(store, {"1.mp4": "same", "2.mp4": "same"})
    assert seen == 1 and keys["1.mp4"] == keys["2.mp4"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_file_is_noticed_when_read_and_computed_anew(store, damage):
    keys, _ = extract(store, {"3.mp4": "c"})
    index = store.folder / "train.json"
    index.write_text("{}")
    path = store.path(keys["3.mp4"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": data[:-10], "flipped": data, "emptied": b""}[damage])
    with pytest.raises(InputError, match=f"{path}.*the same command again computes what is lacking"):
        store.read(keys["3.mp4"])
    assert not path.exists() and not index.exists()  # so that the same command does
    assert extract(store, {"3.mp4": "c"})[1] == 1
    assert store.read(keys["3.mp4"])["video_features"].max() == 3


def test_a_file_that_is_cut_short_is_computed_anew_without_being_read(store, caplog):
    keys, _ = extract(store, {"3.mp4": "c", "4.mp4": "d"})
    path = store.path(keys["3.mp4"])
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert extract(store, {"3.mp4": "c", "4.mp4": "d"})[1] == 1
    assert f"{path}: damaged" in caplog.text


def test_missing_features_are_named(store):
    with pytest.raises(InputError, match=r"ab/abc\.safetensors: these features are missing; the same command again"):
        store.read("abc")


def test_too_large_a_batch_is_halved_until_it_fits_and_that_is_said(store, caplog):
    keys, seen = extract(store, {f"{i}.mp4": str(i) for i in range(11)}, model=Encoders(room=2), batch_size=8)
    assert seen == 11
    assert "4 clips at a time" in caplog.text and "2 clips at a time" in caplog.text
    assert all(store.read(key)["video_features"].max() == int(path.split(".")[0]) for path, key in keys.items())
    with pytest.raises(torch.OutOfMemoryError):
        extract(store, {"20.mp4": "20"}, model=Encoders(room=0))


def test_a_clip_that_fails_keeps_what_came_before(store):
    clips = {"1.mp4": "1", "2.mp4": "2", "broken.mp4": "3"}
    with pytest.raises(InputError, match=r"broken\.mp4"):
        extract(store, clips)
    assert extract(store, {path: digest for path, digest in clips.items() if path != "broken.mp4"})[1] == 0
    assert not list(store.folder.rglob(".*"))  # nothing half-written


def test_a_killed_reader_is_an_error_that_keeps_what_came_before(store):
    clips = {"1.mp4": "1", "2.mp4": "2", "killer.mp4": "3"}
    with pytest.raises(InputError, match="a process that decodes clips was killed, for want of memory most likely"):
        extract(store, clips, batch_size=1, workers=1)
    assert extract(store, {"1.mp4": "1", "2.mp4": "2"})[1] == 0


def test_no_reader_outlives_the_extraction(store):
    extract(store, {"1.mp4": "1"})
    with pytest.raises(InputError):
        extract(store, {"broken.mp4": "2", "3.mp4": "3"})
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [line for line in children if "loky" in line and "tracker" not in line] == []


def test_no_reader_outlives_a_process_that_is_killed(tmp_path):
    program = (
        "import sys; from test_features import FeatureStore, extract\n"
        "extract(FeatureStore(sys.argv[1]), {path: path for path in sys.argv[2:]})"
    )
    clips = [tmp_path / "hangs.mp4", tmp_path / "hangs too.mp4"]
    command = [sys.executable, "-c", program, str(tmp_path / "features"), *map(str, clips)]
    extracting = subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)
    while not all(clip.exists() for clip in clips):
        time.sleep(0.05)
    readers = psutil.Process(extracting.pid).children()
    extracting.kill()
    extracting.wait()
    _, alive = psutil.wait_procs(readers, timeout=20)
    assert not alive


def test_a_clip_that_changed_since_it_was_checked_gets_no_features(store):
    reader = MobileVideoGPTProcessor(SimpleNamespace(get_vocab=dict)).frame_reader
    arguments = (store, "e", SETTINGS, 1, "cpu", 1)
    with pytest.raises(InputError, match=r"340\.mp4: the file changed after it was checked; the same command again"):
        extract_features(Encoders(), reader, {CLIP: "another"}, *arguments, progress=False)
    assert not list(store.folder.rglob("*.safetensors"))
    extract_features(Encoders(), reader, {CLIP: file_digest(CLIP)}, *arguments, progress=False)


def test_features_that_cannot_be_written_are_named_and_leave_nothing(store):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes, in the place of a full disk
    try:
        with pytest.raises(InputError, match=r"abc\.safetensors: cannot be written .*free some space"):
            store.write("abc", {"video_features": torch.zeros(100), "context_features": torch.zeros(100)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_too_little_space_is_an_error_before_anything_is_written(store, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 10**6, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"the features of 3 clips take 0\.00 GB, but 0\.00 GB are free; free some"):
        extract(store, {"1.mp4": "1", "2.mp4": "2", "3.mp4": "3"}, model := Encoders())
    assert model.seen == 0 and not list(store.folder.rglob("*.safetensors"))


def test_features_that_overflow_the_number_format_are_refused(store):
    with pytest.raises(InputError, match=r"2\.mp4: its features are not finite as float16; set features\.dtype"):
        extract(store, {"2.mp4": "2"}, model=Encoders(scale=1e5))
    extract(store, {"2.mp4": "2"}, model=Encoders(scale=1e5), settings={"dtype": "bfloat16"})


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


def test_stored_features_are_those_of_the_real_encoders(store, tmp_path):
    clips = {}
    for seed in range(3):
        path = str(tmp_path / f"{seed}.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=30, width=64, height=48, pix_fmt="yuv420p")
            noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
            for i in range(20):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, i, axis=1), format="rgb24")))
            container.mux(stream.encode())
        clips[path] = file_digest(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    video = {"video_hidden_size": 16, "video_num_layers": 1, "image_hidden_size": 32, "image_num_layers": 2}
    sizes |= video | {"image_intermediate_size": 32, "image_num_heads": 2, "num_key_value_heads": 1, "vocab_size": 64}
    config = MobileVideoGPTConfig(**sizes, bos_token_id=1, eos_token_id=2, video_token_id=3)
    model = MobileVideoGPTForConditionalGeneration(config).eval()
    processor = MobileVideoGPTProcessor(SimpleNamespace(get_vocab=dict))  # no text is encoded here
    keys = extract_features(model, processor.frame_reader, clips, store, "e", {"dtype": "float32"}, 2, progress=False)
    for path in clips:
        pixels = {name: value[None] for name, value in processor.encode_video(path).items()}
        with torch.no_grad():
            expected = dict(zip(NAMES, model.encode_video(**pixels), strict=True))
        for name, tensor in store.read(keys[path]).items():
            torch.testing.assert_close(tensor, expected[name][0].float(), rtol=1e-4, atol=1e-5)
