from pathlib import Path

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import replacing, write_text


def test_a_folder_that_cannot_be_written_to_and_a_full_disk_are_named_with_a_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a\.json: cannot be written .*see to it that you may write to .*file/"):
        write_text("", tmp_path / "file/a.json")
    full = r"b\.json: cannot be written \(No space left on device\); free some space"
    with pytest.raises(InputError, match=full), replacing(tmp_path / "b.json"):
        Path("/dev/full").write_text("more than there is room for")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
