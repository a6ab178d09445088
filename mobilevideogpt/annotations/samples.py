"""Annotation records as training, evaluation and inference read them. Standard library only."""

from collections.abc import Mapping
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json


def prompt_and_response(record: Mapping, where: str = "annotations") -> tuple[str, str]:
    """The two turns of a record.

    Raises:
        InputError: If it is not one human turn with one ``<video>``, then one answer that is not empty.
    """
    where = f"{where}, {record.get('video', 'a record without video')}" if isinstance(record, Mapping) else where
    try:
        (human, prompt), (gpt, response) = ((turn["from"], turn["value"]) for turn in record["conversations"])
        if (human, gpt) != ("human", "gpt") or not response.strip():
            raise ValueError
        if (prompt.count("<video>"), response.count("<video>")) != (1, 0):
            raise ValueError
        record["video"].strip()
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{where}: is not a clip with one human turn that holds one <video> and one gpt turn with an answer; "
            "`snakemake annotations` makes such records"
        ) from None
    return prompt, response


def read_annotations(path: str | Path) -> list[dict]:
    """Read an annotation file and check every record.

    Raises:
        InputError: If the file is missing or a record is malformed.
    """
    records = read_json(path, remedy="`snakemake annotations` makes it")
    if not isinstance(records, list):
        raise InputError(f"{path}: holds a {type(records).__name__}, not a list; `snakemake annotations` makes it anew")
    for i, record in enumerate(records, 1):
        prompt_and_response(record, f"{path}, record {i}")
    return records


def unusable(report: Mapping) -> dict[str, list[str]]:
    """Problems of the clips that cannot be used, by path, as `verification.summarise` reports them."""
    return {clip["video"]: clip["problems"] for clip in report["clips"] if clip["verdict"] == "error"}
