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
from mobilevideogpt.segments import split_segment, with_segment
from mobilevideogpt.wording import counted

HEADER = ["clip", "split"]
EXPECTED = f"expected {','.join(HEADER)}, as in squats/0001.mp4,train"


def read_pins(path: str | Path, data_root: str) -> dict[str, str]:
    """Read the lines ``clip,split``; a clip is spelled as in the manifest.

    Returns:
        Clip path, with ``data_root`` in front, to its split.

    Raises:
        InputError: If the file cannot be read, has no header, or a line is not a clip and a split. It names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8 text, or delete it") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        numbered = [(rows.line_num, cells) for row in rows if any(cells := [cell.strip() for cell in row])]
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num}: {error}; {EXPECTED}") from None
    if not numbered:
        raise InputError(f"{path}: is empty; {EXPECTED}, or delete it")
    (first, header), *numbered = numbered
    if header != HEADER:
        raise InputError(f"{path}:{first}: the header is {','.join(header)!r}, not {','.join(HEADER)!r}; correct it")
    pins: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, cells in numbered:
        where = f"{path}:{number}"
        clip, split = _pin(cells, data_root, where)
        if pins.setdefault(clip, split) != split:
            raise InputError(f"{where}: {cells[0]!r} is {pins[clip]} in line {lines[clip]}; delete one of the two")
        lines.setdefault(clip, number)
    return pins


def _pin(cells: list[str], data_root: str, where: str) -> tuple[str, str]:
    """Return clip and split of a line."""
    if len(cells) != 2 or not cells[0]:
        raise InputError(f"{where}: {','.join(cells)!r} is not a clip and its split; {EXPECTED}")
    name, split = cells
    if split not in SPLITS:
        raise InputError(f"{where}: {split!r} is not a split; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
    file, segment = split_segment(name)
    return with_segment(f"{data_root}/{join_key(relative_path(file, data_root, where))}", segment), split


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
        return f"{path}: lists all {counted(len(splits), 'clip{s}')} already; nothing was written"
    with open(path, encoding="utf-8", newline="") if exists else io.StringIO(",".join(HEADER) + "\n") as file:
        text = file.read()
    end = "\r\n" if "\r\n" in text else "\n"
    lines = io.StringIO(newline="")
    rows = csv.writer(lines, lineterminator=end)
    rows.writerows([clip.removeprefix(f"{data_root}/"), split] for clip, split in missing.items())
    write_text(text + (end if text and not text.endswith("\n") else "") + lines.getvalue(), path)
    if exists:
        return f"{path}: {counted(len(missing), 'clip{s}')} added, the {len(known)} that were there are unchanged"
    return f"{path}: {counted(len(missing), 'clip{s}')} written; their splits stay the same when clips are added"
