from pathlib import Path

import pytest

from mobilevideogpt.annotations.publishing import is_published, publish
from mobilevideogpt.files import write_records

MEMORY = "results/copies.json"


def made(text):
    """Annotation files, which differ for each text."""
    files = {split: Path(f"results/qved_{split}.json") for split in ("train", "val", "test")}
    for split, file in files.items():
        write_records([{"video": f"dataset/squats/{text}.mp4", "split": split}], file)
    return files


def published():
    return is_published(("train", "val", "test"), "dataset", MEMORY)


def test_published_files_are_ours_to_replace(project):
    assert not published()
    publish(made(1), "dataset", MEMORY)
    assert published()
    assert publish(made(2), "dataset", MEMORY) == []
    assert published()
    assert sorted(path.name for path in Path("dataset").iterdir()) == [
        "qved_test.json",
        "qved_train.json",
        "qved_val.json",
    ]


def test_a_users_file_is_set_aside_and_never_overwritten(write, caplog):
    write("dataset/qved_train.json", "mine")
    write("dataset/qved_train.json.set-aside-1", "older")
    aside = publish(made(1), "dataset", MEMORY)
    assert aside == ["dataset/qved_train.json.set-aside-2"]
    assert Path(aside[0]).read_text() == "mine"
    assert Path("dataset/qved_train.json.set-aside-1").read_text() == "older"
    assert "qved_train.json was not written by" in caplog.text


def test_a_users_file_of_another_name_is_set_aside_too_whenever_it_comes(write, caplog):
    publish(made(1), "dataset", MEMORY)
    write("dataset/qved_feedbacks_train.json", "another's")
    assert not published()
    aside = publish(made(1), "dataset", MEMORY)
    assert aside == ["dataset/qved_feedbacks_train.json.set-aside-1"]
    assert Path(aside[0]).read_text() == "another's" and f"set aside as {aside[0]}" in caplog.text
    assert published()


def test_a_folder_that_cannot_be_written_to_is_left_alone(write, caplog, monkeypatch):
    write("dataset/qved_train.json", "mine")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # permissions do not stop root
    assert publish(made(1), "dataset", MEMORY) == [] and published()
    assert [path.name for path in Path("dataset").iterdir()] == ["qved_train.json"]
    assert "dataset cannot be written to; the annotations are in results only" in caplog.text


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("edited")])
def test_a_copy_that_is_gone_or_edited_is_noticed_and_made_anew(project, change):
    publish(made(1), "dataset", MEMORY)
    change(Path("dataset/qved_val.json"))
    assert not published()
    publish(made(1), "dataset", MEMORY)
    assert published()


def test_a_link_in_the_place_of_a_copy_is_set_aside_and_what_it_points_to_stays(write):
    write("elsewhere.json", "mine")
    Path("dataset/qved_test.json").symlink_to(Path("elsewhere.json").resolve())
    assert publish(made(1), "dataset", MEMORY) == ["dataset/qved_test.json.set-aside-1"]
    assert Path("elsewhere.json").read_text() == "mine"
    assert not Path("dataset/qved_test.json").is_symlink()


def test_a_kill_between_remembering_and_writing_disowns_nothing(project, monkeypatch):
    publish(made(1), "dataset", MEMORY)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mobilevideogpt.annotations.publishing.replacing", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(made(2), "dataset", MEMORY)
    assert not published()
    assert publish(made(2), "dataset", MEMORY) == []
    assert published()


def test_a_lost_memory_sets_aside_only_what_differs(project):
    publish(made(1), "dataset", MEMORY)
    Path(MEMORY).unlink()
    assert not published()
    assert publish(made(1), "dataset", MEMORY) == []
    assert published()
