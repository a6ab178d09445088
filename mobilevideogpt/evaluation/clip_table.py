"""The report's table of test clips: frames, answers, and what is right about each answer."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.grounding import exercise_of
from mobilevideogpt.evaluation.metrics import split_answer
from mobilevideogpt.video.decoding import read_frames


@dataclass(frozen=True)
class Thumbnail:
    """A frame: a JPEG as data URI, its time in the clip in seconds, its size in pixels."""

    src: str
    seconds: float
    width: int
    height: int


@dataclass(frozen=True)
class Badge:
    """One judgement of an answer."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Answer:
    """An answer and its judgements."""

    text: str
    badges: list[Badge]


@dataclass
class ClipRow:
    """One row; ``frames`` is empty if the clip cannot be read, and ``problem`` says why."""

    video: str
    prompt: str
    reference: str
    shown_video: str
    shown_reference: str | None
    answers: dict[str, Answer]
    frames: list[Thumbnail] = field(default_factory=list)
    problem: str = ""

    @property
    def wrong(self) -> int:
        """Number of wrong parts in the fine-tuned model's answer."""
        return sum(not badge.ok for badge in self.answers["finetuned"].badges)


def clip_rows(predictions: Sequence[Mapping], project: Path, limit: int, free_text: bool) -> list[ClipRow]:
    """Make the rows of the table.

    Args:
        predictions: Rows of `mobilevideogpt.evaluation.evaluate.evaluate`.
        project: Folder that the clips' paths are relative to.
        limit: Most rows. Of more predictions, those with wrong answers come first.
        free_text: Whether the answers are free text.
    """
    references = {row["video"]: row["reference"] for row in predictions}
    rows = [_row(prediction, references.get(prediction["shown_video"]), free_text) for prediction in predictions]
    if len(rows) > limit:
        rows = sorted(rows, key=lambda row: -row.wrong)[:limit]
    for row in rows:
        try:
            row.frames = thumbnails(project / row.video)
        except InputError as error:  # a clip that is gone does not prevent the page
            row.problem = str(error)
    return rows


def thumbnails(path: str | Path, count: int = 4, width: int = 160) -> list[Thumbnail]:
    """Read ``count`` frames spread over those that the model sees."""
    frames, indices, info = read_frames(path)
    pictures = []
    for i in sorted({round((k + 0.5) * len(frames) / count - 0.5) for k in range(count)}):
        picture = Image.fromarray(frames[i])
        picture.thumbnail((width, width))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=78, optimize=True)
        source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
        pictures.append(Thumbnail(source, indices[i] / info.fps, picture.width, picture.height))
    return pictures


def short_name(video: str) -> str:
    """The last folder and the file name of a clip."""
    return "/".join(PurePosixPath(video).parts[-2:])


def _row(prediction: Mapping, shown_reference: str | None, free_text: bool) -> ClipRow:
    reference, shown_video = prediction["reference"], prediction["shown_video"]
    answers = {
        name: Answer(prediction[name], _badges(reference, prediction[name], free_text))
        for name in ("base", "finetuned")
    }
    control = prediction["mismatched_video"]
    shown = shown_reference or exercise_of(shown_video)
    answers["mismatched_video"] = Answer(control, _control_badges(reference, control, shown, free_text))
    return ClipRow(
        video=prediction["video"],
        prompt=prediction["prompt"].replace("<video>", "").strip(),
        reference=reference,
        shown_video=shown_video,
        shown_reference=shown_reference,
        answers=answers,
    )


def _badges(reference: str, answer: str, free_text: bool) -> list[Badge]:
    """Compare an answer with the reference of its clip."""
    exercise, feedback = split_answer(reference, free_text)
    given_exercise, given_feedback = split_answer(answer, free_text)
    if free_text:
        return [Badge(given_feedback == feedback, "word for word")]
    badges = [Badge(given_exercise == exercise, "exercise")]
    return [*badges, Badge(given_feedback == feedback, "feedback")] if feedback else badges


def _control_badges(reference: str, answer: str, shown: str, free_text: bool) -> list[Badge]:
    """Compare the control's answer with the reference of the shown clip and with that of the prompt's own clip."""
    if free_text:
        same = split_answer(reference, free_text) == split_answer(answer, free_text)
        return [Badge(False, "answers for its own clip")] if same else []
    exercise, shown_exercise, given = (split_answer(text)[0] for text in (reference, shown, answer))
    if given == shown_exercise:
        return [Badge(True, "names the shown clip")]
    return [Badge(False, "names its own clip" if given == exercise else "names neither clip")]
