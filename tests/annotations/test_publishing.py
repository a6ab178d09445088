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


def test_published_files_are_replaced(project):
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


def test_a_users_file_of_another_name_is_set_aside_too(write, caplog):
    publish(made(1), "dataset", MEMORY)
    write("dataset/qved_feedbacks_train.json", "another's")
    assert not published()
    aside = publish(made(1), "dataset", MEMORY)
    assert aside == ["dataset/qved_feedbacks_train.json.set-aside-1"]
    assert Path(aside[0]).read_text() == "another's" and f"set aside as {aside[0]}" in caplog.text
    assert published()


def test_a_read_only_folder_gets_no_copies(write, caplog, monkeypatch):
    write("dataset/qved_train.json", "mine")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # permissions do not stop root
    assert publish(made(1), "dataset", MEMORY) == [] and published()
    assert [path.name for path in Path("dataset").iterdir()] == ["qved_train.json"]
    assert "dataset is read-only: it gets no copies of the annotations; results/ has those in use" in caplog.text


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("edited")])
def test_a_missing_or_edited_copy_is_written_again(project, change):
    publish(made(1), "dataset", MEMORY)
    change(Path("dataset/qved_val.json"))
    assert not published()
    publish(made(1), "dataset", MEMORY)
    assert published()


def test_a_link_in_the_place_of_a_copy_is_set_aside_and_its_target_stays(write):
    write("elsewhere.json", "mine")
    Path("dataset/qved_test.json").symlink_to(Path("elsewhere.json").resolve())
    assert publish(made(1), "dataset", MEMORY) == ["dataset/qved_test.json.set-aside-1"]
    assert Path("elsewhere.json").read_text() == "mine"
    assert not Path("dataset/qved_test.json").is_symlink()


def test_after_a_kill_between_digest_and_copy_the_old_copy_is_still_ours(project, monkeypatch):
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


def test_without_the_digests_only_copies_that_differ_are_set_aside(project):
    publish(made(1), "dataset", MEMORY)
    Path(MEMORY).unlink()
    assert not published()
    assert publish(made(1), "dataset", MEMORY) == []
    assert published()
