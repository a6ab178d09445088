from dataclasses import asdict
from fractions import Fraction

import av
import numpy as np
import pytest

from mobilevideogpt.sample.render import sample_specs, write_clip
from mobilevideogpt.verification import duplicates
from mobilevideogpt.verification.duplicates import describe, hashes_of, near_duplicates
from mobilevideogpt.video.clip_check_worker import decode_clip

COPIES = {
    # name: (frames, what is done to a frame (H, W, 3), width and height, quality of H.264, frames a second)
    "encoded again": (slice(None), lambda frame: frame, (320, 240), 36, 30),
    "scaled": (slice(None), lambda frame: frame, (160, 120), 23, 30),
    "darker": (slice(None), lambda frame: frame // 5 * 3, (320, 240), 23, 30),
    "trimmed": (slice(20, -17), lambda frame: frame, (320, 240), 23, 30),
    "second half": (slice(72, None), lambda frame: frame, (320, 240), 23, 30),
    "mirrored": (slice(None), lambda frame: frame[:, ::-1], (320, 240), 23, 30),
    "mirrored and trimmed": (slice(9, None), lambda frame: frame[:, ::-1], (320, 240), 23, 30),
    "of half the frames": (slice(None, None, 2), lambda frame: frame, (320, 240), 23, 15),
}


def write_copy(source, target, frames, change, size, quality, rate):
    with av.open(str(source)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][frames]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": str(quality)})
        stream.width, stream.height = size
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(change(picture)), format="rgb24")
            container.mux(stream.encode(frame.reformat(*size)))
        container.mux(stream.encode())


def clip_check(path):
    return {"video": str(path), **asdict(decode_clip(str(path)))}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The clip checks of twelve clips in one style, of six exercises."""
    folder = tmp_path_factory.mktemp("sample")
    paths = []
    for number, spec in enumerate(sample_specs(clips_per_exercise=2).values()):
        paths.append(folder / f"{number}.mp4")
        write_clip(spec, paths[-1])
    return [clip_check(path) for path in paths]


def test_different_clips_of_one_style_are_no_near_duplicates(sample):
    hashes = hashes_of(sample)
    assert len(hashes) == 12
    for kept in range(12):
        splits = {clip: "test" if number == kept else "train" for number, clip in enumerate(hashes)}
        assert near_duplicates(hashes, splits) == []


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_however_it_was_made(name, sample, tmp_path):
    original = sample[3]["video"]
    write_copy(original, tmp_path / "copy.mp4", *COPIES[name])
    hashes = hashes_of([*sample, clip_check(tmp_path / "copy.mp4")])
    splits = {clip: "train" for clip in hashes} | {str(tmp_path / "copy.mp4"): "test"}
    [pair] = near_duplicates(hashes, splits)
    assert set(pair["clips"]) == {original, str(tmp_path / "copy.mp4")}
    assert pair["splits"] == [splits[clip] for clip in pair["clips"]]
    assert pair["mirrored"] == name.startswith("mirrored") and 0 <= pair["distance"] <= 4
    assert near_duplicates(hashes, dict.fromkeys(hashes, "train")) == []


def test_clips_of_one_room_that_differ_only_in_the_person_are_no_near_duplicates():
    rng = np.random.default_rng(0)
    room = rng.integers(0, 1 << 63)
    hashes = {}
    for clip in range(200):
        pose = [int(room) ^ sum(1 << int(bit) for bit in rng.choice(64, 6, replace=False)) for _ in range(19)]
        hashes[f"{clip:03d}"] = {"seconds": 0.25, "hashes": [f"{value:016x}" for value in pose]}
    splits = {clip: ("train", "test")[number % 2] for number, clip in enumerate(hashes)}
    assert near_duplicates(hashes, splits) == []


def test_many_copies_of_one_clip_are_all_named_in_some_pair():
    one = {"seconds": 0.25, "hashes": [f"{value:016x}" for value in range(1, 20)]}
    splits = {f"{number:03d}": "train" if number % 3 else "test" for number in range(300)}
    pairs = near_duplicates(dict.fromkeys(splits, one), splits)
    assert {clip for pair in pairs for clip in pair["clips"]} == set(splits)
    assert all(len(set(pair["splits"])) == 2 for pair in pairs)


def test_of_too_many_pairs_those_with_most_in_common_are_compared(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 2)
    rng = np.random.default_rng(0)
    hashes, names = {}, ("best", "first", "second", "third")
    for name in names:  # of the best one, all frames are copied; of the others some
        frames = [f"{value:016x}" for value in rng.integers(0, 1 << 63, 24)]
        copied = frames if name == "best" else frames[: 18 - names.index(name)]
        hashes |= {f"{name} a": {"seconds": 0.25, "hashes": frames}, f"{name} b": {"seconds": 0.25, "hashes": copied}}
    pairs = near_duplicates(hashes, {clip: {"a": "train", "b": "test"}[clip[-1]] for clip in hashes})
    assert [pair["clips"] for pair in pairs] == [["best a", "best b"], ["first a", "first b"]]


def test_clips_without_hashes_or_with_too_few_are_skipped():
    records = [
        {"video": "a", "hashes": None, "hash_seconds": None},
        {"video": "b", "hashes": ["00ff00ff00ff00ff"] * 3, "hash_seconds": 0.1},
        {"video": "c", "hashes": ["00ff00ff00ff00ff"] * 3, "hash_seconds": None},
        {"video": "d", "hashes": [None] * 9, "hash_seconds": 0.1},
    ]
    hashes = hashes_of(records)
    assert set(hashes) == {"b", "c", "d"}
    assert near_duplicates(hashes, {"a": "train", "b": "train", "c": "test", "d": "val"}) == []
    assert near_duplicates({}, {"a": "train"}) == []


def test_the_warning_names_clips_splits_and_remedy():
    pair = {"clips": ["dataset/a.mp4", "dataset/b.mp4"], "splits": ["train", "test"]}
    text = describe([pair] * 5)
    for part in (
        "5 pairs",
        "dataset/a.mp4 (train) and dataset/b.mp4 (test)",
        ", ...;",
        "splits.csv",
        "dataset.exclude",
    ):
        assert part in text
    assert describe([pair]).startswith("1 pair of clips")
    assert describe([]) == "no near-duplicates across splits"
