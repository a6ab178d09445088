"""The report's table of test clips: frames, answers, and what is right about each answer."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from PIL import Image

from mobilevideogpt.data.frame_bounds import FrameBounds
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.scoring import Task, fold, named_exercise, question_of
from mobilevideogpt.segments import split_segment
from mobilevideogpt.video.decoding import read_frames

POSTER_WIDTH = 384  # pixels
PLAYED_BY_BROWSERS = (".mp4", ".m4v", ".webm", ".mov")


@dataclass(frozen=True)
class Thumbnail:
    """A frame that CLIP saw.

    Attributes:
        src: A JPEG as data URI.
        seconds: Its time in the clip.
        width: In pixels.
        height: In pixels.
        score: By which frames are chosen for the video encoder, see `mobilevideogpt.model.selection`; None if unknown.
        chosen: Whether the video encoder received it.
    """

    src: str
    seconds: float
    width: int
    height: int
    score: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Badge:
    """One judgement of an answer."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Answer:
    """An answer and its judgements; ``cut`` if it reached the limit before it ended."""

    text: str
    badges: list[Badge]
    cut: bool = False


@dataclass
class ClipRow:
    """One row; ``frames`` is empty if the clip cannot be read, and ``problem`` says why.

    ``poster`` is a still of the clip's middle, for the player. ``link`` leads from the page to the file that the
    model saw; ``playable`` says whether browsers play it.
    """

    video: str
    exercise: str
    prompt: str
    reference: str
    shown_video: str | None
    shown_reference: str | None
    answers: dict[str, Answer]
    frames: list[Thumbnail] = field(default_factory=list)
    poster: Thumbnail | None = None
    problem: str = ""
    link: str | None = None
    playable: bool = False

    @property
    def wrong(self) -> int:
        """Number of wrong parts in the fine-tuned model's answer."""
        return sum(not badge.ok for badge in self.answers["finetuned"].badges)


def clip_rows(
    predictions: Sequence[Mapping],
    task: Task,
    *,
    files: Mapping[str, str],
    project: Path,
    page: Path,
    limit: int,
    bounds: FrameBounds,
) -> list[ClipRow]:
    """Make the rows of the table.

    Args:
        predictions: Rows of `mobilevideogpt.evaluation.evaluate.evaluate`.
        task: What the answers are about.
        files: Clip to the file that the model saw, where that is not the clip itself.
        project: Folder that the paths of clips and files are relative to.
        page: The page, for links to the files.
        limit: Most rows. Those with wrong answers come first.
        bounds: How many frames the model saw.
    """
    references = {(row["video"], question_of(row["prompt"], row["exercise"])): row["reference"] for row in predictions}
    rows = [
        _row(row, references.get((row["shown_video"], question_of(row["prompt"], row["exercise"]))), task)
        for row in predictions
    ]
    rows = sorted(rows, key=lambda row: -row.wrong)[:limit]
    marks = {row["video"]: row.get("frames") for row in predictions}
    for row in rows:
        file = project / files.get(row.video, row.video)
        try:
            row.frames = thumbnails(file, bounds, marks[row.video])
            row.poster = thumbnails(file, bounds, count=1, width=POSTER_WIDTH)[0]
        except InputError as error:  # a clip that is gone does not prevent the page
            row.problem = str(error)
            continue
        whole, segment = split_segment(file)  # browsers know the part of a file by the same mark
        row.link = quote(Path(os.path.relpath(whole, page.parent)).as_posix()) + str(segment or "")
        row.playable = whole.lower().endswith(PLAYED_BY_BROWSERS)
    return rows


def thumbnails(
    path: str | Path,
    bounds: FrameBounds = FrameBounds(),  # noqa: B008 (immutable)
    marks: Mapping | None = None,
    *,
    count: int | None = None,
    width: int = 128,
) -> list[Thumbnail]:
    """Read the frames of a clip that the model sees.

    Args:
        path: The file.
        bounds: How many frames the model sees.
        marks: ``frames`` of a prediction: the ``scores`` of the frames and which are ``chosen``.
        count: Frames to return, spread over all; all of them by default.
        width: Of the pictures, in pixels; also their greatest height.

    Raises:
        InputError: If the file does not decode.
    """
    frames, indices, info = read_frames(path, *bounds)
    count = len(frames) if count is None else count
    pictures = []
    for i in sorted({round((k + 0.5) * len(frames) / count - 0.5) for k in range(count)}):
        picture = Image.fromarray(frames[i])
        picture.thumbnail((width, width))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=78, optimize=True)
        source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
        score, chosen = (marks["scores"][i], i in marks["chosen"]) if marks else (None, False)
        pictures.append(Thumbnail(source, indices[i] / info.fps, picture.width, picture.height, score, chosen))
    return pictures


def short_name(video: str) -> str:
    """The last folder and the file name of a clip."""
    return "/".join(PurePosixPath(video).parts[-2:])


def _row(prediction: Mapping, shown_reference: str | None, task: Task) -> ClipRow:
    cut = prediction.get("cut", {})
    answers = {
        name: Answer(prediction[name], judgements(prediction, prediction[name], task), cut.get(name, False))
        for name in ("base", "finetuned")
    }
    control = prediction.get("mismatched_video")
    if control is not None:
        badges = _control_badges(prediction, control, shown_reference, task)
        answers["mismatched_video"] = Answer(control, badges, cut.get("mismatched_video", False))
    return ClipRow(
        video=prediction["video"],
        exercise=prediction["exercise"],
        prompt=prediction["prompt"].replace("<video>", "").strip(),
        reference=prediction["reference"],
        shown_video=prediction.get("shown_video"),
        shown_reference=shown_reference,
        answers=answers,
    )


def judgements(prediction: Mapping, answer: str, task: Task) -> list[Badge]:
    """Compare an answer with the reference of its clip."""
    wanted, given = task.feedback(prediction["reference"]), task.feedback(answer)
    if task.free_text:
        return [_labels_badge(wanted, given, "word for word")]
    named = named_exercise(answer, task.exercises)
    badges = [Badge(bool(named) and fold(named) == fold(prediction["exercise"]), "exercise")]
    return [*badges, _labels_badge(wanted, given, "feedback")] if wanted else badges


def _labels_badge(wanted: frozenset[str], given: frozenset[str], name: str) -> Badge:
    """A judgement of labels; of several, it says how many are there."""
    if given != wanted and len(wanted) > 1 and wanted & given:
        name = f"{name}: {len(wanted & given)} of {len(wanted)} labels"
    return Badge(given == wanted, name)


def _control_badges(prediction: Mapping, answer: str, shown_reference: str | None, task: Task) -> list[Badge]:
    """Compare the control's answer with what the shown clip calls for, and with the prompt's own clip."""
    given, own = task.content(answer), task.reference(prediction["reference"], prediction["exercise"])
    if shown_reference is None and task.subject != "exercises":
        return []  # the question is not asked of the shown clip
    shown = task.reference(shown_reference or "", prediction["shown_exercise"])
    if shown == own:
        return []
    if given == shown:
        return [Badge(True, "answers for the shown clip")]
    return [Badge(False, "answers for its own clip" if given == own else "answers for neither clip")]
