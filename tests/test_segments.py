"""Segments of recordings, from the manifest to the features."""

import math

import av
import numpy as np
import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.groups import read_workers, recordings_of
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.pins import read_pins
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, write_json
from mobilevideogpt.segments import Segment, file_of, read_segment, split_segment, with_segment
from mobilevideogpt.verification.clip_report import clip_report
from mobilevideogpt.video.clip_check import check_clip
from mobilevideogpt.video.decoding import decode_at, read_frames
from mobilevideogpt.video.frame_reader import model_frames
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.sampling import frame_indices

FILE = "dataset/session.mp4"
SEGMENTS = [f"{FILE}#t=0,2.5", f"{FILE}#t=2.5,6"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()


def manifest(content):
    write_json(content, "dataset/manifest.json")
    return read_manifest("dataset/manifest.json", "dataset")


@pytest.mark.parametrize(
    ("path", "file", "segment"),
    [
        (FILE, FILE, None),
        (f"{FILE}#t=12,17.5", FILE, (12.0, 17.5)),
        ("dataset/a #1.mp4", "dataset/a #1.mp4", None),
        ("dataset/a#t=1,2.mp4", "dataset/a#t=1,2.mp4", None),
        ("dataset/a#t=1,2.mp4#t=0.25,3", "dataset/a#t=1,2.mp4", (0.25, 3.0)),
    ],
)
def test_the_path_of_a_segment_says_its_file_and_its_seconds(path, file, segment):
    assert split_segment(path) == (file, segment) and file_of(path) == file
    assert with_segment(file, segment and Segment(*segment)) == path


def test_a_segment_is_written_in_one_way():
    assert str(Segment(12.0, 17.5)) == "#t=12,17.5" and str(Segment(0, 1 / 3)) == "#t=0,0.333"
    assert read_segment(FILE, 12, 17.50, "x") == read_segment(f"{FILE}#t=12.0,17.5", None, None, "x")


@pytest.mark.parametrize(
    ("start", "end"), [(1, None), (None, 1), ("1", 2), (2, 1), (1, 1), (-1, 1), (0, math.inf), (True, 2), ([1], 2)]
)
def test_what_is_no_segment_is_refused(start, end):
    with pytest.raises(InputError, match=r"entry 3: start .* are no segment; write seconds"):
        read_segment(FILE, start, end, "manifest.json, entry 3")
    with pytest.raises(InputError, match="are no segment"):
        read_segment(f"{FILE}#t=5,2", None, None, "x")
    with pytest.raises(InputError, match="the path says #t=1,2, start and end say #t=1,3"):
        read_segment(f"{FILE}#t=1,2", 1, 3, "x")


@pytest.mark.parametrize(
    "content",
    [
        [
            {"path": "dataset/session.mp4", "exercise": "squats", "start": 0, "end": 2.5},
            {"path": "session.mp4", "exercise": "lunges", "start": 2.5, "end": 6.0},
        ],
        {
            "session.mp4": [
                {"exercise": "squats", "start": 0, "end": 2.5},
                {"exercise": "lunges", "start": 2.5, "end": 6.0},
            ]
        },
        {"session.mp4#t=0.0,2.5": "squats", "dataset/session.mp4#t=2.50,6": "lunges"},
    ],
)
def test_a_manifest_names_segments_in_three_ways(content):
    assert manifest(content) == [Clip(SEGMENTS[0], "squats"), Clip(SEGMENTS[1], "lunges")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"exercise": "squats"}], "entry 1: has no path"),
        (["session.mp4"], "entry 1: has no path"),
        ({"session.mp4": ["squats"]}, r"is a list; write a name such as .squats., or a file's segments"),
        ({"session.mp4": []}, "is a list"),
        ({"session.mp4": {"exercise": "squats", "start": 3}}, "start 3 and end None are no segment"),
        (3, "contains a int"),
    ],
)
def test_a_malformed_manifest_of_segments_is_told(content, message):
    with pytest.raises(InputError, match=message):
        manifest(content)


def test_excluding_a_file_excludes_its_segments():
    write_json(dict.fromkeys([*SEGMENTS, "dataset/other.mp4"], "squats"), "dataset/manifest.json")
    for excluded, left in (
        (["session.mp4"], ["dataset/other.mp4"]),
        ([SEGMENTS[1]], ["dataset/other.mp4", SEGMENTS[0]]),
    ):
        assert [clip.path for clip in read_manifest("dataset/manifest.json", "dataset", excluded)] == left


def test_a_label_is_that_of_its_segment():
    labels = [
        {"video_path": "session.mp4", "start": 2.5, "end": 6, "labels": ["lunges - a"]},
        {"video_path": "./session.mp4#t=0,2.5", "labels": ["squats - b"]},
        {"video_path": "session.mp4", "start": 7, "end": 8, "labels": ["squats - c"]},
        {"video_path": "other.mp4", "labels": ["squats - d"]},
    ]
    write_json(labels, "dataset/labels.json")
    clips = [Clip(SEGMENTS[0], "squats"), Clip(SEGMENTS[1], "lunges"), Clip("dataset/other.mp4", "squats")]
    matched = join_labels(clips, read_labels("dataset/labels.json", "dataset"))
    assert {path: label.text for path, label in matched.by_clip.items()} == {
        SEGMENTS[0]: "squats - b",
        SEGMENTS[1]: "lunges - a",
        "dataset/other.mp4": "squats - d",
    }
    assert [label.origin for label in matched.unused] == ["dataset/labels.json, entry 3"]
    with pytest.raises(InputError, match=r"1 of 4 clips have no label: dataset/session\.mp4#t=6,9 \(no entry\)"):
        join_labels([*clips, Clip(f"{FILE}#t=6,9", "squats")], read_labels("dataset/labels.json", "dataset"))


def test_starts_and_ends_of_labels_do_not_matter_where_no_clip_is_a_segment():
    write_json([{"video_path": "a.mp4", "start": 0, "end": 9, "labels": ["squats - a"]}], "dataset/labels.json")
    matched = join_labels([Clip("dataset/a.mp4", "squats")], read_labels("dataset/labels.json", "dataset"))
    assert matched.by_clip.keys() == {"dataset/a.mp4"}


def test_a_file_is_one_recording_of_one_person():
    copy = "dataset/session_flip.mp4"
    found = recordings_of(
        [*SEGMENTS, copy, "dataset/other.mp4", "dataset/again.mp4"], same=[(FILE, "dataset/again.mp4")]
    )
    assert len({found.by_clip[path] for path in [*SEGMENTS, copy, "dataset/again.mp4"]}) == 1
    assert found.by_clip["dataset/other.mp4"] == "dataset/other.mp4"
    write_json([{"video_path": "session.mp4", "worker_id": 7}], "dataset/workers.json")
    workers = read_workers("dataset/workers.json", [Clip(path, "squats") for path in SEGMENTS], "dataset")
    assert workers == dict.fromkeys(SEGMENTS, "7")


def test_pins_name_segments(tmp_path):
    (tmp_path / "dataset/splits.csv").write_text('clip,split\n"session.mp4#t=0.0,2.5",test\n')
    assert read_pins("dataset/splits.csv", "dataset") == {SEGMENTS[0]: "test"}


def write_counted(path, frames=150, fps=25, step=1):
    """Write a clip in which the brightness tells the number of the frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, width=64, height=64, pix_fmt="yuv420p")
        stream.codec_context.options = {"crf": "1"}
        for number in range(0, frames, step):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_the_model_sees_the_frames_of_the_segment(tmp_path):
    write_counted(FILE)
    for segment, first, count in ((SEGMENTS[0], 0, 63), (SEGMENTS[1], 63, 87), (f"{FILE}#t=3,3.4", 75, 10)):
        expected = [first + index for index in frame_indices(count, 25)]
        frames, positions, _ = read_frames(segment)
        assert positions == expected
        read = np.stack(list(model_frames(segment, 16, 16)))
        assert np.array_equal(read, frames) and np.array_equal(frames, np.stack(list(decode_at(FILE, expected))))
        assert np.abs(read[:, 32, 32, 0].astype(int) - [20 + number for number in expected]).max() <= 3
    assert clip_frames(SEGMENTS[1], file_digest(FILE), 16, 16)["pixel_values_videos"].shape == (16, 224, 224, 3)
    with pytest.raises(InputError, match=r"#t=8,9: does not decode \(no frame is shown from 8 to 9 s\)"):
        clip_frames(f"{FILE}#t=8,9", None, 16, 16)


def test_the_clip_check_says_what_is_seen_of_each_segment():
    write_counted(FILE, frames=230, fps=6)  # 38 seconds
    names = [f"{FILE}#t=0,10", f"{FILE}#t=10,37", f"{FILE}#t=2,3", f"{FILE}#t=4,7.5", f"{FILE}#t=50,60"]
    check = check_clip(FILE, segments={FILE: names})
    assert check["verdict"] == "ok" and check["reader_difference"] == 0 and check["seen"] is None
    assert {name: facts["frames"] for name, facts in check["segments"].items()} == {
        "#t=0,10": 60,
        "#t=10,37": 162,
        "#t=2,3": 6,
        "#t=4,7.5": 21,
    }
    report = clip_report([check], segments={FILE: names})
    found = {clip["video"]: (clip["verdict"], "; ".join(clip["problems"])) for clip in report["clips"]}
    assert found[names[0]] == ("ok", "") and found.keys() == {*names}
    assert all(clip["file"] == clip["video"] and clip["digest"] == file_digest(FILE) for clip in report["clips"])
    for name, verdict, problem in (
        (names[1], "warning", "16 frames, which show"),
        (names[2], "warning", "has 6 frames, fewer than the 16"),
        (names[3], "warning", "the first 16 of its 21 frames"),
        (names[4], "error", "no frame is shown from 50 to 60 s; correct its start and end"),
    ):
        assert found[name][0] == verdict and problem in found[name][1]
    assert "show 4" in check_clip(FILE)["problems"][0]  # as one clip, it is too long


def test_a_file_that_cannot_be_used_fails_each_segment(tmp_path):
    (tmp_path / FILE).write_bytes(b"no video")
    report = clip_report([check_clip(FILE, segments={FILE: SEGMENTS})], segments={FILE: SEGMENTS})
    assert [(clip["video"], clip["verdict"]) for clip in report["clips"]] == [(name, "error") for name in SEGMENTS]


def test_segments_of_a_re_encoded_file_are_read_from_it():
    write_counted(FILE)
    check = check_clip(FILE, segments={FILE: SEGMENTS}) | {"reencode": ["pixels"]}
    new = {FILE: {"of": check["digest"], "file": "results/reencoded/session.mp4", "digest": "d"}}
    report = clip_report([check], segments={FILE: SEGMENTS}, reencoded=new)
    assert [clip["file"] for clip in report["clips"]] == [
        "results/reencoded/session.mp4#t=0,2.5",
        "results/reencoded/session.mp4#t=2.5,6",
    ]
