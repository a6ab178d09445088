"""Pins: the clips whose split the user fixed in ``splits.csv``. Standard library only."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from mobilevideogpt.annotations.clips import SPLITS
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_text
from mobilevideogpt.paths import join_key, relative_path

HEADER = ["clip", "split"]


def read_pins(path: str | Path, data_root: str) -> dict[str, str]:
    """Read the lines ``clip,split``; a clip is spelled as in the manifest.

    Returns:
        Clip path, with ``data_root`` in front, to its split.

    Raises:
        InputError: If the file cannot be read, has no header, or a line is not a clip and a split. It names the line.
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
                raise InputError(
                    f"{where}: {cells[1]!r} is not a split; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
                )
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
    """Add the clips that ``splits.csv`` does not list yet; its lines are kept as they are.

    Args:
        path: The file; created if it is missing.
        splits: Clip path to its split.
        data_root: The data set's folder.

    Returns:
        One sentence for the user: how many clips were added.

    Raises:
        InputError: See `read_pins`.
    """
    exists = os.path.exists(path)
    known = read_pins(path, data_root) if exists else {}
    missing = {clip: split for clip, split in sorted(splits.items()) if join_key(clip) not in known}
    if exists and not missing:
        return f"{path}: lists all {len(splits)} clips already; nothing was written"
    with open(path, encoding="utf-8", newline="") if exists else io.StringIO(",".join(HEADER) + "\n") as file:
        text = file.read()
    end = "\r\n" if "\r\n" in text else "\n"
    lines = io.StringIO(newline="")
    rows = csv.writer(lines, lineterminator=end)
    rows.writerows([clip.removeprefix(f"{data_root}/"), split] for clip, split in missing.items())
    write_text(text + (end if text and not text.endswith("\n") else "") + lines.getvalue(), path)
    if exists:
        return f"{path}: {len(missing)} clips added, the {len(known)} that were there are unchanged"
    return f"{path}: {len(missing)} clips written; their splits stay the same when clips are added"
