from dataclasses import asdict
from fractions import Fraction

import av
import numpy as np
import pytest

from mobilevideogpt.sample.render import sample_specs, write_clip
from mobilevideogpt.verification import duplicates
from mobilevideogpt.verification.duplicates import across_splits, describe, hashes_of, near_duplicates
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
    assert near_duplicates(hashes, {clip: clip for clip in hashes}) == []


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_however_it_was_made(name, sample, tmp_path):
    original = sample[3]["video"]
    write_copy(original, tmp_path / "copy.mp4", *COPIES[name])
    copy = str(tmp_path / "copy.mp4")
    hashes = hashes_of([*sample, clip_check(copy)])
    [pair] = near_duplicates(hashes, {clip: clip for clip in hashes})
    assert set(pair["clips"]) == {original, copy}
    assert pair["mirrored"] == name.startswith("mirrored") and 0 <= pair["distance"] < 2 and pair["same_recording"]
    assert near_duplicates(hashes, dict.fromkeys(hashes, "one recording")) == []


def hashed(frames):
    return {"seconds": 0.25, "hashes": [f"{int(value):016x}" for value in frames]}


def flipped(frames, bits, rng):
    """The hashes with this many other bits each."""
    return [int(value) ^ sum(1 << int(bit) for bit in rng.choice(63, bits, replace=False)) for value in frames]


@pytest.mark.parametrize(
    ("movement", "bits", "near", "same"),
    [
        (6, 0, True, True),
        (6, 1, True, True),
        (6, 3, True, False),  # a person who repeats a movement in one room, at the same pace
        (6, 8, False, False),
        (0, 0, True, False),  # a dark room, where nothing moves, looks like itself in every clip
        (0, 1, True, False),
        (1, 1, True, False),
    ],
)
def test_one_recording_needs_more_than_alike_frames(movement, bits, near, same):
    rng = np.random.default_rng(0)
    frames = flipped([int(rng.integers(0, 1 << 63))] * 20, movement, rng)
    pairs = near_duplicates({"a": hashed(frames), "b": hashed(flipped(frames, bits, rng))}, {"a": "a", "b": "b"})
    assert [pair["same_recording"] for pair in pairs] == [same] * near


def test_of_all_pairs_those_in_different_splits_are_told():
    pairs = [{"clips": ["a", "b"], "distance": 0.5}, {"clips": ["a", "c"], "distance": 1}, {"clips": ["a", "d"]}]
    found = across_splits(pairs, {"a": "train", "b": "test", "c": "train"})
    assert found == [{"clips": ["a", "b"], "distance": 0.5, "splits": ["train", "test"]}]


def test_clips_of_one_room_that_differ_only_in_the_person_are_no_near_duplicates():
    rng = np.random.default_rng(0)
    room = rng.integers(0, 1 << 63)
    hashes = {}
    for clip in range(200):
        pose = [int(room) ^ sum(1 << int(bit) for bit in rng.choice(64, 6, replace=False)) for _ in range(19)]
        hashes[f"{clip:03d}"] = {"seconds": 0.25, "hashes": [f"{value:016x}" for value in pose]}
    assert near_duplicates(hashes, {clip: clip for clip in hashes}) == []


def test_many_copies_of_one_clip_are_all_named_in_some_pair():
    one = {"seconds": 0.25, "hashes": [f"{value:016x}" for value in range(1, 20)]}
    clips = {f"{number:03d}": f"{number:03d}" for number in range(300)}
    pairs = near_duplicates(dict.fromkeys(clips, one), clips)
    assert {clip for pair in pairs for clip in pair["clips"]} == set(clips)


def test_of_too_many_pairs_those_with_most_in_common_are_compared(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 2)
    rng = np.random.default_rng(0)
    hashes, names = {}, ("best", "first", "second", "third")
    for name in names:  # of the best one, all frames are copied; of the others some
        frames = [f"{value:016x}" for value in rng.integers(0, 1 << 63, 24)]
        copied = frames if name == "best" else frames[: 18 - names.index(name)]
        hashes |= {f"{name} a": {"seconds": 0.25, "hashes": frames}, f"{name} b": {"seconds": 0.25, "hashes": copied}}
    pairs = near_duplicates(hashes, {clip: clip for clip in hashes})
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
    assert near_duplicates(hashes, {clip: clip for clip in "abcd"}) == []
    assert near_duplicates({}, {"a": "a"}) == []


def test_the_warning_names_clips_splits_and_remedy():
    pair = {"clips": ["dataset/a.mp4", "dataset/b.mp4"], "splits": ["train", "test"], "distance": 1.25}
    text = describe([pair] * 5)
    for part in (
        "5 pairs",
        "dataset/a.mp4 (train) and dataset/b.mp4 (test), 1.25 bits of 63 apart",
        "; ...;",
        "splits.csv",
        "dataset.exclude",
    ):
        assert part in text
    assert describe([pair]).startswith("1 pair of clips")
    assert describe([]) == "no near-duplicates across splits"
