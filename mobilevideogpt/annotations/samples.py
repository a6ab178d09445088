"""Samples as training, evaluation and inference read them. Standard library only.

A sample is ``{"video", "exercise", "group", "conversations": [human turn, gpt turn], "split"}``. The exercise is the
manifest's. The group is the name of the clips that the split keeps together: those of one recording or one person.
"""

from collections.abc import Mapping
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.wording import agree, counted

LISTED = 10  # clips in a message
REMEDY = "run `snakemake annotations`"


def prompt_and_response(sample: Mapping, where: str = "annotations") -> tuple[str, str]:
    """Return the two turns of a sample.

    Args:
        sample: The sample; only its ``conversations`` are read.
        where: File and position, for the message.

    Raises:
        InputError: Unless it has one human turn with one ``<video>``, then one gpt turn with an answer.
    """
    try:
        (human, prompt), (gpt, response) = ((turn["from"], turn["value"]) for turn in sample["conversations"])
        well_formed = (human, gpt) == ("human", "gpt") and bool(response.strip())
        well_formed = well_formed and (prompt.count("<video>"), response.count("<video>")) == (1, 0)
    except (AttributeError, KeyError, TypeError, ValueError):
        well_formed, prompt, response = False, "", ""
    if not well_formed:
        raise InputError(
            f"{_named(where, sample)}: expected one human turn with one <video>, then one gpt turn with an answer; "
            f"{REMEDY}"
        )
    return prompt, response


def _named(where: str, sample: object) -> str:
    video = sample.get("video") if isinstance(sample, Mapping) else None
    return f"{where}, {video}" if isinstance(video, str) else where


def read_samples(path: str | Path) -> list[dict]:
    """Read a list of samples and check each.

    Raises:
        InputError: If the file is missing or a sample is malformed.
    """
    samples = read_json(path, remedy=REMEDY)
    if not isinstance(samples, list):
        raise InputError(f"{path}: contains a {type(samples).__name__}, not a list; {REMEDY}")
    for i, sample in enumerate(samples, 1):
        where = f"{path}, sample {i}"
        prompt_and_response(sample, where)
        for name in ("video", "exercise"):
            if not isinstance(sample.get(name), str) or not sample[name]:
                raise InputError(f'{_named(where, sample)}: has no "{name}"; {REMEDY}')
    return samples


def unusable(report: Mapping) -> dict[str, list[str]]:
    """Return the problems of the clips that cannot be used, by path, from ``verify/report.json``."""
    return _problems(report, "error")


def cannot_be_used(problems: Mapping[str, list[str]], n_clips: int, where: str | Path) -> str:
    """Return the message about clips that cannot be used, where they may not be left out.

    Args:
        problems: See `unusable`.
        n_clips: Number of all clips.
        where: The report.
    """
    listed = "\n".join(f"  {clip}: {'; '.join(texts)}" for clip, texts in list(problems.items())[:LISTED])
    more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    them = agree(len(problems), "{it|them}")
    return (
        f"{where}: {len(problems)} of {counted(n_clips, 'clip{s}')} cannot be used; fix {them}, list {them} in "
        f"dataset.exclude, or set integrity.on_error to leave_out:\n{listed}{more}"
    )


def doubtful(report: Mapping) -> dict[str, list[str]]:
    """Return likewise the problems of the clips that are used with a warning."""
    return _problems(report, "warning")


def _problems(report: Mapping, verdict: str) -> dict[str, list[str]]:
    return {clip["video"]: clip["problems"] for clip in report["clips"] if clip["verdict"] == verdict}
