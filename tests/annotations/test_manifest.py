import json
import unicodedata
from pathlib import Path

import pytest

from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.annotations.findings import Code, Findings
from mobilevideogpt.annotations.manifest import read_manifest
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


def test_a_byte_order_mark_is_ignored(write):
    write(MANIFEST, "\ufeff" + json.dumps({"squats/1.mp4": "squats"}))
    assert read_manifest(MANIFEST, "dataset") == [Clip("dataset/squats/1.mp4", "squats")]


def test_clips_are_sorted_and_excluded_ones_left_out(write):
    write(MANIFEST, {"squats/2.mp4": "squats", "squats/1.mp4": "squats", "lunges/3.mp4": "lunges"})
    clips = read_manifest(MANIFEST, "dataset", exclude=["./squats/1.mp4"])
    assert [clip.path for clip in clips] == ["dataset/lunges/3.mp4", "dataset/squats/2.mp4"]


def test_the_paths_begin_with_the_data_sets_folder(write):
    write("dataset/sample/manifest.json", {"dataset/sample/squats/1.mp4": "squats", "squats/2.mp4": "squats"})
    clips = read_manifest("dataset/sample/manifest.json", "dataset/sample")
    assert [clip.path for clip in clips] == ["dataset/sample/squats/1.mp4", "dataset/sample/squats/2.mp4"]


@pytest.mark.parametrize(
    ("content", "entry", "remedy"),
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
        ({"squats/1.mp4": ["squats"]}, "squats/1.mp4", "write a name such as"),
        ({"squats/1.mp4": {"exercise": {"name": "squats"}}}, "squats/1.mp4", "write a name such as"),
        ({"squats/1.mp4": "<video>"}, "squats/1.mp4", "write a plain name"),
        ('{"squats/1.mp4": "\\ud800"}', "squats/1.mp4", "write a plain name"),
        ({"squats/1\0.mp4": "squats"}, "squats/1", "rename the clip"),
        ({"squats/1.mp4": " "}, "squats/1.mp4", "the exercise is missing"),
        ({"1.mp4": None}, "1.mp4", "put the clip into its folder"),
        ({"squats/1.jpg": "squats"}, "squats/1.jpg", "convert the clip to MP4, or remove the entry"),
        ({"squats/list.txt": "squats"}, "has the suffix .txt; that of a clip is one of .mp4,", "remove the entry"),
        ({"squats/f%03d.png": "squats"}, "f%03d.png", "remove the entry"),
        ({"squats/1": "squats"}, "'squats/1' has no suffix", "remove the entry"),
        ({"squats/mp4": "squats"}, "squats/mp4", "remove the entry"),
        ({}, "no clip", "add entries"),
        ([], "list", "snakemake manifest"),
        ("{", "not valid JSON", "snakemake manifest"),
        ("", "not valid JSON", "snakemake manifest"),
        ("[" * 100_000, "not valid JSON", "snakemake manifest"),
        ('{"squats/1.mp4": ' + "1" * 5000 + "}", "not valid JSON", "snakemake manifest"),
    ],
)
def test_a_bad_manifest_is_refused_with_file_entry_and_remedy(write, content, entry, remedy):
    write(MANIFEST, content)
    with pytest.raises(InputError) as error:
        read_manifest(MANIFEST, "dataset")
    for part in (MANIFEST, entry, remedy):
        assert part in str(error.value)


def test_a_missing_or_unreadable_manifest_names_the_remedy(project):
    with pytest.raises(InputError, match=r"manifest\.json: there is no such file; `snakemake manifest`"):
        read_manifest(MANIFEST, "dataset")
    Path(MANIFEST).mkdir()
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        read_manifest(MANIFEST, "dataset")


def test_an_exclusion_that_fits_no_clip_is_refused(write):
    write(MANIFEST, {"squats/1.mp4": "squats"})
    with pytest.raises(InputError, match=r"dataset\.exclude: 'squats/2\.mp4' is not in dataset/manifest\.json"):
        read_manifest(MANIFEST, "dataset", exclude=["squats/2.mp4"])
    with pytest.raises(InputError, match=r"the most similar entry is 'squats/1\.mp4'"):
        read_manifest(MANIFEST, "dataset", exclude=["squats/01.mp4"])
    with pytest.raises(InputError, match=r"shorten dataset\.exclude"):
        read_manifest(MANIFEST, "dataset", exclude=["squats/1.mp4"])


def test_clips_that_were_left_out_or_guessed_are_listed(write):
    write(
        MANIFEST,
        {
            "squats/1.mp4": {"path": "squats/1.mp4"},
            "squats/2.mp4": "squats",
            "./squats/2.mp4": "squats",
            "a/3.mp4": "a",
        },
    )
    findings = Findings()
    read_manifest(MANIFEST, "dataset", ["dataset/a/3.mp4"], findings)
    assert {row["code"]: row["items"] for row in findings.summary()} == {
        Code.EXERCISE_FROM_FOLDER: ["squats/1.mp4"],
        Code.DUPLICATE_ENTRY: ["./squats/2.mp4"],
        Code.EXCLUDED: ["a/3.mp4"],
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
