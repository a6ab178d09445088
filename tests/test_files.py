import json
import os
from pathlib import Path

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import (
    check_writable,
    read_json,
    read_json_lines,
    replacing,
    replacing_folder,
    write_table,
    write_text,
)


def test_a_file_that_cannot_be_written_is_named_with_a_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a\.json: cannot be written .*make .*file/ writable"):
        write_text("", tmp_path / "file/a.json")
    full = r"b\.json: cannot be written \(No space left on device\); free some space"
    with pytest.raises(InputError, match=full), replacing(tmp_path / "b.json"):
        Path("/dev/full").write_text("more than there is room for")
    write_text("", tmp_path / f"{'体' * 83}.json")  # 254 bytes of 255
    with pytest.raises(InputError, match="shorten the name"):
        write_text("", tmp_path / f"{'体' * 84}.json")
    (tmp_path / f"{'体' * 83}.json").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_written_files_and_folders_have_the_usual_modes(tmp_path):
    with replacing_folder(tmp_path / "adapter") as folder:
        (folder / "inner").mkdir(mode=0o700)
        (folder / "inner/tensors").touch(mode=0o600)
    write_text("text", tmp_path / "file")
    umask = os.umask(0)
    os.umask(umask)
    folders = [tmp_path / "adapter", tmp_path / "adapter/inner"]
    files = [tmp_path / "adapter/inner/tensors", tmp_path / "file"]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o777 & ~umask}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_a_line_of_json_may_contain_other_line_ends_of_unicode(tmp_path):
    write_text('{"answer": "a\u2028b\u0085c"}\n{}\n', tmp_path / "rows.jsonl")
    assert read_json_lines(tmp_path / "rows.jsonl", "fix it") == [{"answer": "a\u2028b\u0085c"}, {}]
    write_text('{"answer": ', tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"rows\.jsonl: not valid JSON lines.*; fix it"):
        read_json_lines(tmp_path / "rows.jsonl", "fix it")


def test_a_written_file_and_its_folder_are_flushed_to_the_disk(tmp_path, monkeypatch):
    events, sync, replace = [], os.fsync, os.replace

    def name(path):
        path = Path(path)
        return "temporary" if path.name.startswith(".") else path.name

    def fsync(handle):
        events.append(f"flush {name(os.readlink(f'/proc/self/fd/{handle}'))}")
        sync(handle)

    def rename(old, new):
        events.append(f"{name(old)} > {name(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    folder = tmp_path / "results"
    write_text("text", folder / "file")
    assert events == ["flush temporary", "temporary > file", "flush results"]
    events.clear()
    with replacing_folder(folder / "adapter") as new:
        (new / "weights").touch()
    assert sorted(events[:2]) == ["flush temporary", "flush weights"]
    assert events[2:] == ["temporary > adapter", "flush results"]


def test_a_read_only_folder_is_named_before_anything_is_written(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    check_writable([tmp_path / "results", tmp_path / "results/run/inner"])
    read_only = tmp_path / "results"  # root may write everywhere, so the system's answer is replaced
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != read_only)
    with pytest.raises(InputError, match=r"results/: is read-only.*make it writable"):
        check_writable([tmp_path / "results/run/inner"])


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"a": []},
        {"files": {"a": {"b": 1}, "c": {}}},
        {"ok": True, "rows": [{"b": [1, "\u00e9"]}, {}], "one": {"c": None}},
    ],
)
def test_a_table_is_json_with_a_row_a_line(tmp_path, table):
    write_table(table, tmp_path / "table.json")
    assert read_json(tmp_path / "table.json") == table
    lines = (tmp_path / "table.json").read_text(encoding="utf-8").splitlines()
    assert all(any(json.dumps(row, ensure_ascii=False) in line for line in lines) for row in table.get("rows", []))
