from pathlib import Path

import pytest

from mobilevideogpt.annotations.pins import add_pins, read_pins
from mobilevideogpt.errors import InputError

CSV = "dataset/splits.csv"


def test_clips_are_written_as_in_the_manifest(write):
    write(
        CSV,
        '\ufeffclip, split\nsquats/1.mp4,train\n\n./dataset/squats/2.mp4 , val\r\n"rows/a, b.mp4",test\n'
        "squats/1.mp4,train",
    )
    pins = {"dataset/squats/1.mp4": "train", "dataset/squats/2.mp4": "val", "dataset/rows/a, b.mp4": "test"}
    assert read_pins(CSV, "dataset") == pins


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["splits.csv: is empty", "delete it"]),
        ("squats/1.mp4,train\n", ["splits.csv:1", "header", "'clip,split'"]),
        ("clip,split\nsquats/1.mp4\n", ["splits.csv:2", "'squats/1.mp4'", "expected clip,split"]),
        ("clip,split\n\nsquats/1.mp4,train,x\n", ["splits.csv:3"]),
        ("clip,split\n,train\n", ["splits.csv:2"]),
        ("clip,split\nsquats/1.mp4,dev\n", ["splits.csv:2", "'dev' is not a split", "train, val or test"]),
        ("clip,split\n../1.mp4,train\n", ["splits.csv:2", "leaves"]),
        ("clip,split\na/1.mp4,train\na/2.mp4,val\n./a/1.mp4,val\n", ["splits.csv:4", "is train in line 2"]),
        ('clip,split\n"a/1.mp4,train\n', ["splits.csv:2"]),
    ],
)
def test_a_bad_line_is_named(write, text, parts):
    write(CSV, text)
    with pytest.raises(InputError) as error:
        read_pins(CSV, "dataset")
    for part in parts:
        assert part in str(error.value)


def test_a_file_that_is_not_utf_8_text_is_refused(write):
    write(CSV, "")
    Path(CSV).write_bytes(b"clip,split\n\xff\xfe.mp4,train\n")
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_pins(CSV, "dataset")


def test_missing_pins_are_added_and_existing_lines_stay(project):
    splits = {"dataset/a/2.mp4": "val", "dataset/a/1.mp4": "train", "dataset/a/x, y.mp4": "test"}
    assert "3 clips written" in add_pins(CSV, splits, "dataset")
    assert Path(CSV).read_text() == 'clip,split\na/1.mp4,train\na/2.mp4,val\n"a/x, y.mp4",test\n'
    assert read_pins(CSV, "dataset") == splits
    before = Path(CSV).stat()
    assert "nothing was written" in add_pins(CSV, dict.fromkeys(splits, "train"), "dataset")
    assert Path(CSV).stat() == before
    assert "1 clip added, the 3" in add_pins(CSV, splits | {"dataset/a/3.mp4": "val"}, "dataset")
    assert Path(CSV).read_text() == 'clip,split\na/1.mp4,train\na/2.mp4,val\n"a/x, y.mp4",test\na/3.mp4,val\n'


def test_a_file_of_a_spreadsheet_keeps_its_line_ends(project):
    there = b"\xef\xbb\xbfclip,split\r\ndataset\\a\\1.mp4,test"
    Path(CSV).write_bytes(there)
    add_pins(CSV, {"dataset/a/1.mp4": "train", "dataset/a/2.mp4": "val"}, "dataset")
    assert Path(CSV).read_bytes() == there + b"\r\na/2.mp4,val\r\n"
    assert read_pins(CSV, "dataset") == {"dataset/a/1.mp4": "test", "dataset/a/2.mp4": "val"}
