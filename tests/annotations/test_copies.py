import pytest

from mobilevideogpt.annotations import copies
from mobilevideogpt.annotations.copies import clips_of_equal_size, equal_files, recording_stems, source_clips


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1234_1",
        "IMG_1234-14",
        "IMG_1234_mirrored",
        "IMG_1234-trimmed",
        "IMG_1234_bright",
        "IMG_1234_brightness",
        "IMG_1234_rot90",
        "IMG_1234_flip_2",
        "IMG_1234_1_flip",
        "IMG_1234_horizontal_flip",
        "IMG_1234 (flipped)",
        "flip_IMG_1234",
        "IMG_1234 copy",  # Finder
        "IMG_1234 copy 2",
        "IMG_1234 2",
        "IMG_1234 Kopie",
        "IMG_1234 - Copy",  # Explorer
        "IMG_1234 - Copy (2)",
        "IMG_1234 \u2013 Kopie",
        "IMG_1234 (copy)",  # GNOME
        "IMG_1234 (3rd copy)",
        "IMG_1234 (1)",  # browsers
        "IMG_1234(1)",
        "Copy of IMG_1234",  # Google Drive
        "Copie de IMG_1234",
        "Copy of IMG_1234_flip (1)",
    ],
)
def test_the_marks_of_copies_lead_to_the_recording(name):
    paths = ["dataset/a/IMG_1234.MOV", f"dataset/a/{name}.mp4"]
    assert set(recording_stems(paths).values()) == {"dataset/a/IMG_1234"}
    assert source_clips(paths)[paths[1]] == paths[0]


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_1234", "IMG_1234_deep"],
        ["squat_1", "squat_2"],
        ["squat (1)", "squat (2)"],  # Explorer's names for files that are renamed at once
        ["clip_cropped_01", "clip_cropped_02"],
        ["session_cropped_p01", "session_cropped_p02"],
        ["trunk_rotation", "trunk_bend"],
        ["squat", "squat_1_2"],
        ["day_20240115", "day_20240116"],
        ["flip", "copy"],
    ],
)
def test_names_that_are_alike_are_not_copies(names):
    paths = [f"dataset/a/{name}.mp4" for name in names]
    assert len(set(recording_stems(paths).values())) == len(names)
    assert source_clips(paths) == {path: path for path in paths}


def test_copies_whose_recording_is_gone_share_its_name_but_have_no_source():
    paths = ["dataset/a/x_flip.mp4", "dataset/a/x_bright.MOV", "dataset/a/x - Copy.mp4"]
    assert set(recording_stems(paths).values()) == {"dataset/a/x"}
    assert source_clips(paths) == {path: path for path in paths}


def test_files_are_equal_by_their_bytes_and_not_by_their_size(write):
    same = [write("dataset/a/1.mp4", "bytes"), write("dataset/b/2.mp4", "bytes")]
    head = write("dataset/a/3.mp4", "x" * 9000 + "1" + "y" * 100)
    tail = write("dataset/a/4.mp4", "x" * 9000 + "2" + "y" * 100)
    others = [write("dataset/a/5.mp4", "Bytes"), write("dataset/a/6.mp4", ""), write("dataset/a/7.mp4", "")]
    paths = [*others, tail, head, *same, "dataset/a/missing.mp4"]
    assert clips_of_equal_size(paths) == [["dataset/a/1.mp4", "dataset/a/5.mp4", "dataset/b/2.mp4"], [head, tail]]
    assert equal_files(paths) == [same]


def test_files_of_known_digest_are_not_read(write, monkeypatch):
    one, two, three = (write(f"dataset/{name}.mp4", "same") for name in ("a", "b", "c"))
    monkeypatch.setattr(copies, "file_digest", {three: "1"}.__getitem__)
    assert equal_files([one, two, three], {one: "1", two: "2"}) == [[one, three]]


def test_only_clips_of_equal_size_are_read(write, monkeypatch):
    paths = [write(f"dataset/a/{i}.mp4", "x" * i) for i in range(1, 9)]
    monkeypatch.setattr(copies, "file_digest", pytest.fail)
    monkeypatch.setattr(copies, "open", pytest.fail, raising=False)
    assert equal_files(paths) == []
