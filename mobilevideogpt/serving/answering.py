"""Answers on the terminal, of ``mobilevideogpt predict`` and `snakemake infer` alike."""

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.serving.answers import Table, json_line, write_page
from mobilevideogpt.serving.pipeline import LONGEST_ANSWER, Pipeline, Prediction
from mobilevideogpt.video.frames import clip_frames


def answer_on_terminal(
    pipeline: Pipeline,
    clips: Sequence[str],
    *,
    prompt: str | None = None,
    exercise: str | None = None,
    batch_size: int = 4,
    max_new_tokens: int = LONGEST_ANSWER,
    as_json: bool = False,
    page: str | Path | None = None,
    stream: bool = False,
) -> int:
    """Print the answers about clips: about one clip the answer alone, about several a table, or JSON lines.

    Args:
        pipeline: The model.
        clips: Paths.
        prompt: The question; by default that of the training.
        exercise: The exercise of all clips.
        batch_size: Clips at a time.
        max_new_tokens: Longest answer, in tokens.
        as_json: Whether to print JSON.
        page: File of a page with the answers and frames.
        stream: Whether to print each answer while it is generated.

    Returns:
        1 if a clip was not answered about, else 0.

    Raises:
        InputError: If the only clip was not answered about, or no prompt is known.
    """
    if stream:
        return _stream(pipeline, clips, prompt, exercise, max_new_tokens)
    found: list[Prediction] = []
    alone, table = len(clips) == 1 and not as_json, Table(clips)
    options = {"exercise": exercise, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
    for prediction in pipeline.predict(clips, prompt, **options, with_pictures=page is not None):
        found.append(prediction)
        if alone and prediction.error:
            raise InputError(prediction.error)
        text = json_line(prediction) if as_json else prediction.answer if alone else table.row(prediction)
        print(text, flush=True)
    if page:
        write_page(found, pipeline.finetuned.name, page)
        print(f"Page: {page}", file=sys.stderr)
    return _status(sum(prediction.error is not None for prediction in found), len(found))


@contextmanager
def stdout_copied_to(path: str | Path) -> Iterator[None]:
    """Write what is printed meanwhile to a file, too."""
    terminal = sys.stdout
    with open(path, "w", encoding="utf-8") as file:

        class Both(io.TextIOBase):
            def write(self, text: str) -> int:
                terminal.write(text)
                return file.write(text)

            def flush(self) -> None:
                terminal.flush()
                file.flush()

        with redirect_stdout(Both()):
            yield


def _status(failed: int, total: int) -> int:
    if failed:
        print(f"{failed} of {total} clips were not answered about", file=sys.stderr)
    return 1 if failed else 0


def _stream(
    pipeline: Pipeline, clips: Sequence[str], prompt: str | None, exercise: str | None, max_new_tokens: int
) -> int:
    prompts, failed = pipeline.prompts(prompt), 0
    for clip in clips:
        try:
            question = prompts.of(clip, exercise)
            [seen] = pipeline.see([clip_frames(clip, None, *pipeline.bounds)])
        except InputError as error:
            if len(clips) == 1:
                raise
            print(f"{clip}: not answered: {error}", flush=True)
            failed += 1
            continue
        if len(clips) > 1:
            print(f"{clip}: ", end="")
        for piece in pipeline.stream(seen, question, max_new_tokens):
            print(piece, end="", flush=True)
        print(flush=True)
    return _status(failed, len(clips))
