"""The reports of the clip check and of the annotations, read with a check of their shape. Standard library only."""

from pathlib import Path

from mobilevideogpt.files import read_json, remade_by

CLIP_REPORT = {
    "checks": [{"name": str, "ok": bool, "detail": str}],
    "clips": [{"video": str, "verdict": str, "problems": [str], "file": str, "digest": (str, None)}],
}
SUMMARY = {
    **{"splits": dict, "findings": list},
    "split": {"notices": [str], "leaks": [str], "groups": object, "source": object},
}


def read_clip_report(path: str | Path, remedy: str | None = None) -> dict:
    """Read ``verify/report.json``, see `verification.clip_report.clip_report`.

    Raises:
        InputError: If the file is missing or malformed.
    """
    return read_json(path, remedy or remade_by("check_clips"), shape=CLIP_REPORT)


def read_summary(path: str | Path, rule: str) -> dict:
    """Read ``summary.json``, see `build.build`; ``rule`` wrote it.

    Raises:
        InputError: If the file is missing or malformed.
    """
    return read_json(path, remade_by(rule), shape=SUMMARY)
