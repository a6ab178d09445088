from pathlib import Path

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import replacing, write_text


def test_what_cannot_be_written_is_named_with_a_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a\.json: cannot be written .*see to it that you may write to .*file/"):
        write_text("", tmp_path / "file/a.json")
    full = r"b\.json: cannot be written \(No space left on device\); free some space"
    with pytest.raises(InputError, match=full), replacing(tmp_path / "b.json"):
        Path("/dev/full").write_text("more than there is room for")
    write_text("", tmp_path / f"{'体' * 83}.json")  # 254 bytes of 255
    with pytest.raises(InputError, match="shorten the name"):
        write_text("", tmp_path / f"{'体' * 84}.json")
    (tmp_path / f"{'体' * 83}.json").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
