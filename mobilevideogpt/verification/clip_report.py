"""The report of the clip check: the status of each clip, and the file that is decoded for it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mobilevideogpt.checks import SHOWN, Check, markdown_cell
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, remade_by
from mobilevideogpt.segments import segment_of, with_segment
from mobilevideogpt.video.clip_status import Status, out_of_bounds, segment_status
from mobilevideogpt.video.reencode_reasons import REENCODINGS, Reason
from mobilevideogpt.wording import agree, counted

CLIP_CHECK = {
    **{"video": str, "verdict": str, "problems": [str], "digest": (str, None)},
    **{"hashes": (list, None), "hash_seconds": (float, None), "reencode": list},
}


def read_clip_checks(files: Iterable[str | Path]) -> Iterator[dict]:
    """Read clip checks from files that contain one, or a list of them."""
    for file in files:
        found = read_json(file, remade_by("probe_clip or probe_shard"), shape=(CLIP_CHECK, [CLIP_CHECK]))
        if not found:
            raise InputError(f"{file}: contains no clip check; {remade_by('probe_clip or probe_shard')}")
        yield from found if isinstance(found, list) else [found]


def clip_report(
    clip_checks: Iterable[Mapping],
    *,
    bounds: Mapping[str, Sequence[float | None]] | None = None,
    reencoded: Mapping[str, Mapping] | None = None,
    segments: Mapping[str, Sequence[str]] | None = None,
    on_error: str = "stop",
    page: str = "verify/report.md",
) -> dict:
    """Gather clip checks, and decide which file is used for each clip.

    Args:
        clip_checks: As `clip_check.check_clips` yields them.
        bounds: Of the quality, see `clip_status.out_of_bounds`.
        reencoded: Result of `reencode.reencode_clips`, if its files are to be used.
        segments: The clips that are segments, by their file; they are then listed in the file's place.
        on_error: With ``stop``, a clip with an error fails the check; with ``leave_out``, only errors in all clips do.
        page: The page of `snakemake verify` that lists all problems, for the remedy.

    Returns:
        ``{"ok": bool, "checks": [{name, ok, detail, remedy}], "clips": [{video, verdict, problems, file, digest}]}``.
        ``verdict`` is the clip's status, ``file`` the file that is decoded for it, and ``digest`` that file's SHA-256.
    """
    clips = [
        clip
        for check in clip_checks
        for clip in _clips(check, bounds or {}, (reencoded or {}).get(check["video"]), (segments or {}))
    ]
    clips.sort(key=lambda clip: clip["video"])
    check = _decoding_check(clips, on_error, page)
    return {"ok": check.ok, "checks": [check.to_json()], "clips": clips}


def _clips(
    check: Mapping, bounds: Mapping, new: Mapping | None, segments: Mapping[str, Sequence[str]]
) -> Iterator[dict]:
    """Yield the clips of a file: the file itself, or its segments."""
    whole = _clip(check, bounds, new)
    if check["video"] not in segments:
        yield whole
    for video in segments.get(check["video"], ()):
        if (segment := segment_of(video)) is None:
            continue
        verdict, problems = segment_status({**check, **whole}, segment)
        yield whole | {
            "video": video,
            "file": with_segment(whole["file"], segment),
            "verdict": verdict,
            "problems": problems,
        }


def _clip(check: Mapping, bounds: Mapping, new: Mapping | None) -> dict:
    clip = {name: check[name] for name in ("video", "verdict", "problems", "digest")} | {"file": check["video"]}
    if new is not None and new["of"] == check["digest"]:
        if "problem" in new:
            clip["problems"] = [*clip["problems"], f"its re-encoded file cannot be used either: it {new['problem']}"]
        else:
            reasons = ", ".join(REENCODINGS[Reason(reason)].problem for reason in check["reencode"])
            clip |= {"file": new["file"], "digest": new["digest"], "verdict": Status.WARNING}
            clip["problems"] = [f"its re-encoded file {new['file']} is used: the clip {reasons}"]
    if problems := out_of_bounds(check, bounds):
        clip |= {"verdict": Status.ERROR, "problems": [*clip["problems"], *problems]}
    return clip


def _decoding_check(clips: Sequence[Mapping], on_error: str, page: str) -> Check:
    counts = Counter(clip["verdict"] for clip in clips)
    errors = [clip for clip in clips if clip["verdict"] == Status.ERROR]
    found = {"ok": counts[Status.OK], "with a warning": counts[Status.WARNING], "with an error": len(errors)}
    detail = f"{counted(len(clips), 'clip{s}')}: {', '.join(f'{n} {name}' for name, n in found.items() if n)}"
    leave_out = on_error == "leave_out" and len(errors) < len(clips)
    if errors and leave_out:
        detail += agree(len(errors), ", which {is|are} left out")
    if not clips:
        return Check("clips decode in full", False, "there are no clips", "add clips to the manifest")
    problems = "; ".join(f"{clip['video']}: {clip['problems'][0]}" for clip in errors[:SHOWN])
    more = f"; {len(errors) - SHOWN} more in {page}" if len(errors) > SHOWN else ""
    remedy = f"{problems}{more}; or set integrity.on_error: leave_out"
    return Check("clips decode in full", leave_out or not errors, detail, remedy)


def clip_tables(clips: Sequence[Mapping], exercises: Mapping[str, str]) -> list[str]:
    """Return the lines of two Markdown tables: the clips of each exercise, and the clips with a warning or an error.

    Args:
        clips: Those of a `clip_report`.
        exercises: Clip path to exercise, as the manifest says.
    """
    counts = Counter(exercises[clip["video"]] for clip in clips if clip["video"] in exercises)
    lines = ["| exercise | clips |", "| --- | ---: |"]
    lines += [f"| {markdown_cell(exercise)} | {count} |" for exercise, count in sorted(counts.items())]
    noted = [clip for clip in clips if clip["verdict"] != Status.OK]
    if noted:
        lines += ["", "| clip | status | problem and remedy |", "| --- | --- | --- |"]
        for clip in noted:
            problems = markdown_cell("; ".join(clip["problems"]))
            lines.append(f"| {markdown_cell(clip['video'])} | {clip['verdict']} | {problems} |")
    return lines
