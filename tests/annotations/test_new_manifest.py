import json
from pathlib import Path

import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.findings import Code
from mobilevideogpt.annotations.join import join_labels
from mobilevideogpt.annotations.labels import read_labels
from mobilevideogpt.annotations.manifest import read_manifest
from mobilevideogpt.annotations.new_manifest import build_manifest, write_manifest
from mobilevideogpt.annotations.unlisted import unlisted_clips, unlisted_sentence
from mobilevideogpt.errors import InputError
from mobilevideogpt.segments import file_of

MANIFEST = "dataset/manifest.json"


def test_a_manifest_is_built_from_folders_and_labels(project, write):
    names = "squats/1.mp4 squats/2.MP4 squats/{3}.mp4 squats/notes.txt squats/.4.mp4 short_clips/9.mkv lunges/8.mov"
    for name in [*names.split(), "5.mp4", "squats/deep/6.mp4", "sample/squats/7.mp4", "lunges/folder.mp4/x"]:
        write(f"dataset/{name}", "x")
    write("outside/1.mp4", "x")
    Path("dataset/squats/link.mp4").symlink_to(project / "outside/1.mp4")
    Path("dataset/linked").symlink_to(project / "outside")
    labels = [
        {"video_path": "./1.mp4", "labels": ["squats - good"]},
        {"video_path": "squats/2.MP4", "labels": ["squats - good"]},
        {"video_path": "9.mp4", "labels": ["push ups - good"]},
        {"video_path": "77.mp4", "labels": ["push ups - good"]},
    ]
    new = build_manifest("dataset", ["dataset/none.json", write("dataset/labels.json", labels)])
    assert new.label_file == "dataset/labels.json"
    assert new.entries == {
        "dataset/short_clips/9.mkv": "push_ups",
        "dataset/squats/1.mp4": "squats",
        "dataset/squats/2.MP4": "squats",
    }
    found = {row["code"]: row["items"] for row in new.findings.summary()}
    assert [item.split()[0] for item in found.pop(Code.LABEL_WITHOUT_CLIP)] == ["77.mp4"]
    assert found.pop(Code.MATCHED_BY_NAME) == ["dataset/squats/1.mp4", "dataset/short_clips/9.mkv"]
    assert found == {
        Code.WITHOUT_LABEL: ["dataset/5.mp4", "dataset/lunges/8.mov", "dataset/squats/deep/6.mp4"],
        Code.NOT_A_FILE: ["dataset/lunges/folder.mp4"],
        Code.LINK_OUTSIDE: ["dataset/linked", "dataset/squats/link.mp4"],
        Code.UNUSABLE_NAME: ["dataset/squats/{3}.mp4"],
        Code.OTHER_SUFFIX: ["dataset/short_clips/9.mkv (9.mp4)"],
    }
    lines = write_manifest("dataset", ["dataset/labels.json"])
    assert "dataset/labels.json: 1 label has no clip here" in lines
    assert "left out, 3: clips without a label\n  dataset/5.mp4\n  dataset/lunges/8.mov" in lines


def test_the_whole_data_set_may_lie_elsewhere(project, write):
    write("disk/squats/1.mp4", "x")
    Path("dataset").rmdir()
    Path("dataset").symlink_to(project / "disk")
    assert "1 clip\n" in write_manifest("dataset", [])


def test_a_written_manifest_reads_back_and_is_never_overwritten(write):
    write("dataset/squats/1.mp4", "x")
    assert "1 clip\n" in write_manifest("dataset", [])
    before = Path(MANIFEST).read_bytes()
    assert read_manifest(MANIFEST, "dataset") == [Clip("dataset/squats/1.mp4", "squats")]
    assert "names all 1 clip that it can name; nothing is added" in write_manifest("dataset", ["dataset/labels.csv"])
    assert Path(MANIFEST).read_bytes() == before


LAYOUTS = [
    '{\n "./squats/1.mp4": "squats",\n "squats/2.mp4": {"exercise": "Squats deep"}\n}\n',
    '[\n  {"path": "dataset/squats/1.mp4", "start": 0.0, "end": 1.5},\n  {"path": "squats/2.mp4"}\n]',
    '\ufeff{\r\n\t"squats/1.mp4": "squats"\r\n}',
    '{"squats/1.mp4": "squats"}',
    '{"squats/1.mp4":\n   "squats"}',
    "[ ]\n",
    "{\n}",
]


@pytest.mark.parametrize("text", LAYOUTS)
def test_clips_are_added_to_a_manifest_of_any_layout_and_no_line_of_it_changes(write, text):
    for path in ("squats/1.mp4", "squats/2.mp4", "lunges/späte 3.mp4", "lunges/4.mp4"):
        write(f"dataset/{path}", "x")
    Path(MANIFEST).write_bytes(text.encode())
    known = read_manifest(MANIFEST, "dataset") if '"' in text else []
    for more in ("lunges/4.mp4", "lunges/5.mp4"):
        before = Path(MANIFEST).read_bytes()
        write(f"dataset/{more}", "x")
        assert " added to " in write_manifest("dataset", [])
        after = Path(MANIFEST).read_bytes()
        lines = before.splitlines()
        if len(lines) > 1 and lines[-1] in (b"}", b"]"):
            assert after.splitlines()[: len(lines) - 1] == lines[:-1] and after.splitlines()[-1] == lines[-1]
        assert after.startswith(before.rstrip()[:-1].rstrip(b" "))
        clips = read_manifest(MANIFEST, "dataset")
        assert {clip.path for clip in known} <= {clip.path for clip in clips}
        assert {"dataset/lunges/späte 3.mp4", f"dataset/{more}"} <= {clip.path for clip in clips}
        assert {clip.exercise for clip in clips if "lunges" in clip.path} == {"lunges"}
        assert len({file_of(clip.path) for clip in clips}) == len(list(Path("dataset").glob("*/*.mp4")))


def test_a_malformed_manifest_is_an_error_and_stays(write):
    write("dataset/squats/1.mp4", "x")
    write(MANIFEST, '{"squats/0.mp4": ')
    with pytest.raises(InputError, match="not valid JSON"):
        write_manifest("dataset", [])
    assert Path(MANIFEST).read_text() == '{"squats/0.mp4": '


def test_new_clips_without_a_label_are_left_out_with_the_file_that_lacks_them(write):
    write("dataset/squats/1.mp4", "x")
    labels = write("dataset/fine_grained_labels.json", {"squats/1.mp4": SQUAT})
    write_manifest("dataset", [labels])
    write("dataset/squats/2.mp4", "x")
    said = write_manifest("dataset", [labels])
    assert "nothing is added" in said and "left out, 1: clip without a label\n  dataset/squats/2.mp4" in said
    assert "add their labels to dataset/fine_grained_labels.json, and run `snakemake manifest` again" in said


def test_without_labels_a_template_has_every_clip_and_gets_lines_for_new_ones(write):
    template = Path("dataset/labels.csv")
    for path in ("squats/1.mp4", "forward_lunges/2.mp4"):
        write(f"dataset/{path}", "x")
    assert "dataset/labels.csv: a template for the labels of 2 clips; write" in write_manifest("dataset", [template])
    assert template.read_text("utf-8-sig") == (
        "video,exercise,label\nforward_lunges/2.mp4,forward_lunges,\nsquats/1.mp4,squats,\n"
    )
    clips = read_manifest(MANIFEST, "dataset")
    with pytest.raises(InputError, match=r"^2 of 2 clips have no label yet: .*labels\.csv, line 3 is empty.*write one"):
        join_labels(clips, read_labels(template, "dataset"))
    filled = template.read_text().replace("squats/1.mp4,squats,", 'squats/1.mp4,squats,"deep, but slow"').rstrip()
    template.write_text(filled)
    write("dataset/squats/3.mp4", "x")
    assert "dataset/labels.csv: 1 line added; write" in write_manifest("dataset", [template])
    assert template.read_text() == f"{filled}\nsquats/3.mp4,squats,\n"
    assert len(read_manifest(MANIFEST, "dataset")) == 3
    with pytest.raises(InputError, match=r"^2 of 3 clips have no label yet"):
        join_labels(read_manifest(MANIFEST, "dataset"), read_labels(template, "dataset"))


def test_where_the_answers_are_not_labels_no_template_is_written(write):
    write("dataset/squats/1.mp4", "x")
    assert write_manifest("dataset", ["dataset/labels.csv"], template=False).endswith("1  squats")
    assert not Path("dataset/labels.csv").exists()


def test_a_table_of_the_user_s_own_columns_is_not_written_to(write):
    for path in ("squats/1.mp4", "squats/2.mp4"):
        write(f"dataset/{path}", "x")
    labels = write("dataset/labels.csv", "video,label\nsquats/1.mp4,squats - good\n")
    assert "left out, 1: clip without a label" in write_manifest("dataset", [labels])
    assert Path(labels).read_text() == "video,label\nsquats/1.mp4,squats - good\n"


def test_clips_that_no_manifest_names_are_said_and_those_that_it_cannot_name_are_not(project, write):
    for path in ("squats/1.mp4", "squats/2.mp4", "squats/{3}.mp4", "sample/squats/4.mp4"):
        write(f"dataset/{path}", "x")
    Path("dataset/squats/link.mp4").symlink_to(project / "outside.mp4")
    known = [Clip("dataset/squats/1.mp4#t=0,1", "squats")]
    unlisted = unlisted_clips(known, "dataset")
    assert unlisted == ["dataset/squats/2.mp4"] and unlisted_sentence([], "dataset") == ""
    assert unlisted_sentence(unlisted, "dataset") == (
        "1 clip in dataset/ is in no manifest: dataset/squats/2.mp4; `snakemake manifest` adds it"
    )
    assert unlisted_sentence(list("abcde"), "dataset").startswith(
        "5 clips in dataset/ are in no manifest: a, b, c, ...;"
    )


SQUAT, LUNGE, FREE = "squats - knees in", "forward lunges - too fast", "Go deeper."


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # QEVD as it unpacks
        ({"QEVD-FIT-300k-Part-1/0.mp4": SQUAT, "QEVD-FIT-300k-Part-1/1.mp4": LUNGE}, ["squats", "forward_lunges"]),
        ({"videos/short_clips/0.mp4": SQUAT, "videos/short_clips/1.mp4": LUNGE}, ["squats", "forward_lunges"]),
        ({"short_clips/0.mp4": SQUAT, "short_clips/1.mp4": LUNGE}, ["squats", "forward_lunges"]),
        ({"short_clips/0.mp4": SQUAT}, ["squats"]),
        ({"0.mp4": SQUAT, "1.mp4": LUNGE}, ["squats", "forward_lunges"]),
        # a part with one exercise, beside one with several
        ({"part1/0.mp4": SQUAT, "part1/1.mp4": LUNGE, "part2/2.mp4": SQUAT}, ["squats", "forward_lunges", "squats"]),
        # one exercise, spelled in two ways
        (
            {"p/0.mp4": "Push Ups - a", "p/1.mp4": "push ups - b", "p/2.mp4": "push ups \u2013 c", "p/3.mp4": LUNGE},
            ["push_ups"] * 3 + ["forward_lunges"],
        ),
        ({"p/0.mp4": SQUAT, "p/1.mp4": LUNGE, "p/2.mp4": "Squats"}, ["squats", "forward_lunges", "squats"]),  # bare
        # folders of exercises, with a label of another one, free text, or another name
        ({"squats/0.mp4": SQUAT, "squats/1.mp4": SQUAT, "squats/2.mp4": LUNGE}, ["squats"] * 3),
        ({"squats/0.mp4": FREE, "squats/1.mp4": "Good."}, ["squats"] * 2),
        ({"deep_squats/0.mp4": SQUAT, "lunges/1.mp4": LUNGE}, ["deep_squats", "lunges"]),
        ({"videos/squats/0.mp4": FREE, "videos/lunges/1.mp4": LUNGE}, ["squats", "forward_lunges"]),
    ],
)
def test_a_folder_of_several_exercises_is_none_and_the_labels_name_them(write, labels, expected):
    for path in labels:
        write(f"dataset/{path}", "x")
    new = build_manifest("dataset", [write("dataset/labels.json", labels)])
    assert new.entries == {f"dataset/{path}": name for path, name in zip(labels, expected, strict=True)}


def test_what_the_labels_named_is_said_once_and_what_nothing_names_is_left_out(write):
    labels = {
        "part1/0.mp4": SQUAT,
        "part1/1.mp4": LUNGE,
        "part2/2.mp4": SQUAT,
        "part2/3.mp4": LUNGE,
        "part1/4.mp4": FREE,
    }
    for path in [*labels, "squats/5.mp4"]:
        write(f"dataset/{path}", "x")
    lines = write_manifest("dataset", [write("dataset/labels.json", {**labels, "5.mp4": SQUAT})])
    said = (
        "the exercise of 4 clips is what their labels name (forward_lunges, squats), not their folder (part1/, part2/)"
    )
    assert lines.count(said) == 1
    assert "left out, 1: clip whose exercise neither its folder nor its label names" in lines
    assert json.loads(Path(MANIFEST).read_text())["dataset/squats/5.mp4"] == "squats"


def test_without_labels_a_folder_in_a_folder_names_no_exercise(write):
    for path in ("squats/1.mp4", "videos/squats/2.mp4", "short_clips/3.mp4", "4.mp4"):
        write(f"dataset/{path}", "x")
    new = build_manifest("dataset")
    assert new.entries == {"dataset/squats/1.mp4": "squats"}
    assert len(new.findings.items(Code.MISPLACED)) == 3


def test_a_folder_without_clips_gives_no_manifest_and_the_error_says_what_was_passed_over(project, write):
    with pytest.raises(InputError, match=r"dataset: found no clip; .*put clips at dataset/<exercise>/<clip>\.mp4"):
        write_manifest("dataset", [])
    names = "squats/1.wmv squats/2.wmv squats/notes.txt squats/.3.mp4 .trash/4.mp4 labels.json"
    for name in [*names.split(), *(f"sample/squats/{i}.mp4" for i in range(3)), "lunges/noise"]:
        write(f"dataset/{name}", "x")
    write("outside/5.mp4", "x")
    Path("dataset/linked").symlink_to(project / "outside")
    with pytest.raises(InputError) as error:
        write_manifest("dataset", [])
    for part in (
        "looked in dataset/ and 2 folders below it for .mp4, .m4v,",
        "2 files with the suffix .wmv (such as dataset/squats/1.wmv), ",
        "2 files hidden (such as dataset/",
        "3 files in the workflow's own folders (such as dataset/sample/squats/0.mp4)",
        "1 file without a suffix (such as dataset/lunges/noise)",
        "left out: 1 symbolic link out of the data set's folder",
    ):
        assert part in str(error.value)
    assert str(error.value).index(".wmv (") < str(error.value).index("hidden")
    assert not Path(MANIFEST).exists()


def test_where_no_clip_has_a_label_the_error_shows_one_of_each(write):
    write("dataset/squats/1.mp4", "x")
    with pytest.raises(InputError, match=r"found 1 clip, none with a label .* of 'a/77\.mp4'; .*dataset/squats/1\.mp4"):
        build_manifest("dataset", [write("dataset/labels.json", {"a/77.mp4": SQUAT})])
