"""``splits.csv``: clips whose split the user has settled. Standard library only."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_text
from mobilevideogpt.paths import join_key, relative_path

HEADER = ["clip", "split"]
SPLITS = ("train", "val", "test")


def read_pins(path: str | Path, data_root: str) -> dict[str, str]:
    """Read ``clip,split`` lines; the clip is written as in the manifest.

    Returns:
        Clip path, with ``data_root`` in front, to its split.

    Raises:
        InputError: If the file cannot be read, has no header or a line is not a clip and a split; it names the line.
    """
    expected = f"expected {','.join(HEADER)}, as in squats/0001.mp4,train"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8 text, or delete it") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    pins, lines = {}, {}
    try:
        for row in rows:
            where, cells = f"{path}:{rows.line_num}", [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not lines:
                if cells != HEADER:
                    raise InputError(
                        f"{where}: the header is {','.join(cells)!r}, not {','.join(HEADER)!r}; correct it"
                    )
                lines[""] = rows.line_num
                continue
            if len(cells) != 2 or not cells[0]:
                raise InputError(f"{where}: {','.join(cells)!r} is not a clip and its split; {expected}")
            if cells[1] not in SPLITS:
                raise InputError(f"{where}: {cells[1]!r} is no split; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
            clip = f"{data_root}/{join_key(relative_path(cells[0], data_root, where))}"
            if pins.setdefault(clip, cells[1]) != cells[1]:
                raise InputError(f"{where}: {cells[0]!r} is {pins[clip]} in line {lines[clip]}; delete one of the two")
            lines.setdefault(clip, rows.line_num)
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num}: {error}; {expected}") from None
    if not lines:
        raise InputError(f"{path}: is empty; {expected}, or delete it")
    return pins


def add_pins(path: str | Path, splits: Mapping[str, str], data_root: str) -> str:
    """Write the split of each clip that ``splits.csv`` does not hold yet; the lines that are there stay as they are.

    Args:
        path: The file; made if there is none.
        splits: Clip path to its split.
        data_root: The data set's folder.

    Returns:
        What was done, in a sentence.

    Raises:
        InputError: See `read_pins`.
    """
    there = os.path.exists(path)
    known = read_pins(path, data_root) if there else {}
    missing = {clip: split for clip, split in sorted(splits.items()) if join_key(clip) not in known}
    if there and not missing:
        return f"{path}: holds all {len(splits)} clips already; nothing was written"
    with open(path, encoding="utf-8", newline="") if there else io.StringIO(",".join(HEADER) + "\n") as file:
        text = file.read()
    end = "\r\n" if "\r\n" in text else "\n"
    lines = io.StringIO(newline="")
    rows = csv.writer(lines, lineterminator=end)
    rows.writerows([clip.removeprefix(f"{data_root}/"), split] for clip, split in missing.items())
    write_text(text + (end if text and not text.endswith("\n") else "") + lines.getvalue(), path)
    if there:
        return f"{path}: {len(missing)} clips added, the {len(known)} that were there are as they were"
    return f"{path}: {len(missing)} clips written; their split stays, whatever is added"
