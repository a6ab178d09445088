"""Labels as a table: ``labels.csv``, read, and written as a template to fill in. Standard library only."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from mobilevideogpt.annotations.answers import split_label
from mobilevideogpt.annotations.clips import Clip
from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import write_text

LABELS_CSV = "labels.csv"
CSV_FORMAT = "a header `video,label`, then a line for each clip such as `squats/0001.mp4,squats - knees in`"
TEMPLATE = ["video", "exercise", "label"]  # the columns of a template, to which rows of new clips are added
_COLUMNS = {*TEMPLATE, "split", "start", "end"}
_DELIMITERS = ",;\t"  # spreadsheets write each of them


def read_rows(path: str | Path) -> Iterator[tuple[str, dict]]:
    """Yield the place of each line of a table of labels, and the line as an entry of a JSON label file.

    The columns ``video`` and ``label`` are needed. With a column ``exercise``, the answer is ``<exercise> - <label>``,
    unless the label begins with the exercise. ``split``, ``start`` and ``end`` (seconds) are as in JSON; other columns
    are ignored. Commas, semicolons or tabs divide the cells.

    Raises:
        InputError: If the file cannot be read, has no such columns or no line, or a line has too many cells.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        rows = list(_numbered(text))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: is not CSV ({error}); save it again as CSV in UTF-8") from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not {"video", "label"} <= set(header):
        raise InputError(f"{path}: the first line is {shown(','.join(header))}; write {CSV_FORMAT}")
    if twice := next((name for name in _COLUMNS if header.count(name) > 1), None):
        raise InputError(f"{path}: has two columns {twice}; delete one")
    if len(rows) == 1:
        raise InputError(f"{path}: has no line below the header; write {CSV_FORMAT}")
    for number, cells in rows[1:]:
        where = f"{path}, line {number}"
        if len(cells) > len(header):
            raise InputError(f"{where}: has more cells than the header; put a text that contains a comma in quotes")
        yield where, _entry(dict(zip(header, map(str.strip, cells), strict=False)), where)


def _numbered(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not empty."""
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    yield from ((reader.line_num, cells) for cells in reader if any(map(str.strip, cells)))


def _entry(row: dict[str, str], where: str) -> dict:
    label, exercise = row.get("label", ""), row.get("exercise", "").replace("_", " ")
    if label and exercise and not split_label(label, exercise)[0]:
        label = f"{exercise} - {label}"
    answer = [label] if label else []
    times = {name: _seconds(row[name], f"{where}, {name}") for name in ("start", "end") if row.get(name)}
    split = {"split": row["split"]} if row.get("split") else {}
    return {"video_path": row["video"], "labels": answer, "labels_descriptive": answer, **split, **times}


def _seconds(text: str, where: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise InputError(f"{where}: {shown(text)} is not a number; write seconds, such as 12.5") from None


def write_template(path: str | Path, clips: Iterable[Clip], data_root: str) -> None:
    """Write a table of clips and exercises whose labels are empty."""
    text = _table([TEMPLATE, *_template_rows(clips, data_root)])
    write_text("\ufeff" + text, path)  # the byte-order mark tells spreadsheets the encoding


def is_template(path: str | Path) -> bool:
    """Whether a table has the columns of a template, in their order."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return file.readline().strip() == ",".join(TEMPLATE)


def add_to_template(path: str | Path, clips: Iterable[Clip], data_root: str) -> None:
    """Add lines for more clips; those that are there stay as they are, byte for byte."""
    text = Path(path).read_bytes().decode("utf-8")
    end = "\r\n" if "\r\n" in text else "\n"
    added = _table(_template_rows(clips, data_root)).replace("\n", end)
    write_text(text + ("" if text.endswith("\n") else end) + added, Path(path).resolve())


def _template_rows(clips: Iterable[Clip], data_root: str) -> list[list[str]]:
    below = len(data_root.rstrip("/")) + 1
    return [[clip.path[below:], clip.exercise, ""] for clip in clips]


def _table(rows: Iterable[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
