import json
import unicodedata
from pathlib import Path

import pytest

from mobilevideogpt.annotations.manifest import Clip, Findings, build_manifest, read_manifest, write_manifest
from mobilevideogpt.errors import InputError

MANIFEST = "dataset/manifest.json"


@pytest.mark.parametrize(
    ("entries", "path", "exercise"),
    [
        ({"dataset/squats/1.mp4": "squats"}, "dataset/squats/1.mp4", "squats"),
        ({"squats/1_2.mp4": "squats"}, "dataset/squats/1_2.mp4", "squats"),
        ({"./squats/1.mp4": "squats"}, "dataset/squats/1.mp4", "squats"),
        ({"./dataset//squats/./1.mp4": "squats"}, "dataset/squats/1.mp4", "squats"),
        ({"dataset\\squats\\1.mp4": "squats"}, "dataset/squats/1.mp4", "squats"),
        ({"squats/1.mp4": "tricep  stretch "}, "dataset/squats/1.mp4", "tricep_stretch"),
        ({"cat-cow_pose/1.mp4": "cat-cow pose"}, "dataset/cat-cow_pose/1.mp4", "cat-cow_pose"),
        ({"squats/1.mp4": {"path": "squats/1.mp4", "exercise": "deep squats"}}, "dataset/squats/1.mp4", "deep_squats"),
        ({"squats/1.mp4": {"path": "squats/1.mp4"}}, "dataset/squats/1.mp4", "squats"),
        ({"squats/1.mp4": None}, "dataset/squats/1.mp4", "squats"),
        ({"squats/1.mp4": 7}, "dataset/squats/1.mp4", "7"),
        ({"kniebeugen übung/größe 1.mp4": "Kniebeugen"}, "dataset/kniebeugen übung/größe 1.mp4", "Kniebeugen"),
        ({"squats/1.mp4": "squats", "dataset/squats/1.mp4": "squats"}, "dataset/squats/1.mp4", "squats"),
    ],
)
def test_every_spelling_of_an_entry_gives_the_same_clip(write, entries, path, exercise):
    assert read_manifest(write(MANIFEST, entries), "dataset") == [Clip(path, exercise)]


def test_a_byte_order_mark_is_no_part_of_the_first_name(write):
    write(MANIFEST, "\ufeff" + json.dumps({"squats/1.mp4": "squats"}))
    assert read_manifest(MANIFEST, "dataset") == [Clip("dataset/squats/1.mp4", "squats")]


def test_clips_are_sorted_and_excluded_ones_left_out(write):
    write(MANIFEST, {"squats/2.mp4": "squats", "squats/1.mp4": "squats", "lunges/3.mp4": "lunges"})
    clips = read_manifest(MANIFEST, "dataset", exclude=["./squats/1.mp4"])
    assert [clip.path for clip in clips] == ["dataset/lunges/3.mp4", "dataset/squats/2.mp4"]


def test_another_root_stands_in_front_of_the_paths(write):
    write("dataset/sample/manifest.json", {"dataset/sample/squats/1.mp4": "squats", "squats/2.mp4": "squats"})
    clips = read_manifest("dataset/sample/manifest.json", "dataset/sample")
    assert [clip.path for clip in clips] == ["dataset/sample/squats/1.mp4", "dataset/sample/squats/2.mp4"]


@pytest.mark.parametrize(
    ("content", "record", "remedy"),
    [
        ({"../squats/1.mp4": "squats"}, "../squats/1.mp4", "copy the clip there"),
        ({"squats/../../1.mp4": "squats"}, "squats/../../1.mp4", "copy the clip there"),
        ({"/data/squats/1.mp4": "squats"}, "/data/squats/1.mp4", "copy the clip there"),
        ({"C:\\squats\\1.mp4": "squats"}, "squats", "copy the clip there"),
        ({"squats/{1}.mp4": "squats"}, "squats/{1}.mp4", "rename the clip"),
        ({'squats/"1".mp4': "squats"}, "1", "rename the clip"),
        ({"squats/<1>.mp4": "squats"}, "squats/<1>.mp4", "rename the clip"),
        ({"squats/1\n.mp4": "squats"}, "squats/1", "rename the clip"),
        ('{"squats/\\ud800.mp4": "squats"}', "ud800", "rename the clip"),
        ({"": "squats"}, "''", "write one such as"),
        ({" squats/1.mp4": "squats"}, " squats/1.mp4", "write one such as"),
        ({"squats/1.mp4": "squats", "./squats/1.mp4": "lunges"}, "squats/1.mp4", "delete one entry"),
        ('{"squats/1.mp4": "squats", "squats/1.mp4": "lunges"}', "squats/1.mp4", "delete one entry"),
        ({"squats/1.mp4": ["squats"]}, "squats/1.mp4", "write one, such as"),
        ({"squats/1.mp4": {"exercise": {"name": "squats"}}}, "squats/1.mp4", "write one, such as"),
        ({"squats/1.mp4": "<video>"}, "squats/1.mp4", "write a plain name"),
        ('{"squats/1.mp4": "\\ud800"}', "squats/1.mp4", "write a plain name"),
        ({"squats/1\0.mp4": "squats"}, "squats/1", "rename the clip"),
        ({"squats/1.mp4": " "}, "squats/1.mp4", "names no exercise"),
        ({"1.mp4": None}, "1.mp4", "put the clip into its folder"),
        ({}, "no clip", "add entries"),
        ([], "list", "snakemake manifest"),
        ("{", "not valid JSON", "snakemake manifest"),
        ("", "not valid JSON", "snakemake manifest"),
        ("[" * 100_000, "not valid JSON", "snakemake manifest"),
        ('{"squats/1.mp4": ' + "1" * 5000 + "}", "not valid JSON", "snakemake manifest"),
    ],
)
def test_a_bad_manifest_is_refused_with_file_record_and_remedy(write, content, record, remedy):
    write(MANIFEST, content)
    with pytest.raises(InputError) as error:
        read_manifest(MANIFEST, "dataset")
    for part in (MANIFEST, record, remedy):
        assert part in str(error.value)


def test_a_missing_or_unreadable_manifest_names_the_remedy(project):
    with pytest.raises(InputError, match=r"manifest\.json: there is no such file; `snakemake manifest`"):
        read_manifest(MANIFEST, "dataset")
    Path(MANIFEST).mkdir()
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        read_manifest(MANIFEST, "dataset")


def test_an_exclusion_that_fits_no_clip_is_refused(write):
    write(MANIFEST, {"squats/1.mp4": "squats"})
    with pytest.raises(InputError, match=r"dataset\.exclude names 'squats/2\.mp4'"):
        read_manifest(MANIFEST, "dataset", exclude=["squats/2.mp4"])
    with pytest.raises(InputError, match=r"shorten dataset\.exclude"):
        read_manifest(MANIFEST, "dataset", exclude=["squats/1.mp4"])


def test_what_was_guessed_or_passed_over_is_listed(write):
    write(
        MANIFEST,
        {
            "squats/1.mp4": {"path": "squats/1.mp4"},
            "squats/2.mp4": "squats",
            "./squats/2.mp4": "squats",
            "a/3.mp4": "a",
        },
    )
    findings = Findings(list)
    read_manifest(MANIFEST, "dataset", ["dataset/a/3.mp4"], findings)
    assert findings == {
        "clips whose exercise is their folder's name": ["squats/1.mp4"],
        "entries of the manifest that say the same twice": ["./squats/2.mp4"],
        "clips left out by dataset.exclude": ["a/3.mp4"],
    }


@pytest.mark.parametrize(("listed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_a_clip_is_found_in_whichever_unicode_form_its_name_is_stored(write, listed, on_disk):
    name = "größe/übung 1.mp4"
    write(f"dataset/{unicodedata.normalize(on_disk, name)}", "x")
    write(MANIFEST, {unicodedata.normalize(listed, name): "squats"})
    [clip] = read_manifest(MANIFEST, "dataset")
    assert Path(clip.path).exists()
    with pytest.raises(InputError, match="no clip is left"):
        read_manifest(MANIFEST, "dataset", exclude=[unicodedata.normalize(listed, name)])


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
    manifest, report = build_manifest("dataset", ["dataset/none.json", write("dataset/labels.json", labels)])
    assert manifest == {
        "dataset/short_clips/9.mkv": "push_ups",
        "dataset/squats/1.mp4": "squats",
        "dataset/squats/2.MP4": "squats",
    }
    assert report["exercises"] == {"push_ups": 1, "squats": 2}
    assert report["labels_without_clip"] == 1
    left_out = report["left_out"]
    assert left_out.pop("has no label in dataset/labels.json") == ["dataset/lunges/8.mov"]
    assert left_out.pop("lies not at dataset/<exercise>/<clip>") == ["dataset/5.mp4", "dataset/squats/deep/6.mp4"]
    assert left_out.pop("is no file") == ["dataset/lunges/folder.mp4"]
    assert left_out.pop("is a link out of dataset/; copy what it points to there") == [
        "dataset/linked",
        "dataset/squats/link.mp4",
    ]
    [(reason, items)] = left_out.items()
    assert "rename the clip" in reason and items == ["dataset/squats/{3}.mp4"]


def test_the_whole_data_set_may_lie_elsewhere(project, write):
    write("disk/squats/1.mp4", "x")
    Path("dataset").rmdir()
    Path("dataset").symlink_to(project / "disk")
    assert "1 clips" in write_manifest("dataset", [])


def test_a_written_manifest_reads_back_and_is_never_overwritten(write):
    write("dataset/squats/1.mp4", "x")
    assert "1 clips" in write_manifest("dataset", [])
    before = Path(MANIFEST).read_bytes()
    assert read_manifest(MANIFEST, "dataset") == [Clip("dataset/squats/1.mp4", "squats")]
    with pytest.raises(InputError, match="exists already"):
        write_manifest("dataset", [])
    assert Path(MANIFEST).read_bytes() == before


def test_a_folder_without_clips_gives_no_manifest(project):
    with pytest.raises(InputError, match=r"dataset: found no clip; put clips at dataset/<exercise>/<clip>\.mp4"):
        write_manifest("dataset", [])
    assert not Path(MANIFEST).exists()
