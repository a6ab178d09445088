"""The evaluation of a fine-tuned model: beside the base, and with the grounding control."""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.answers import BASE, FINETUNED, MISMATCHED, SOURCES, Answered, Batches
from mobilevideogpt.evaluation.conclusion import conclude
from mobilevideogpt.evaluation.generation import Answer
from mobilevideogpt.evaluation.grounding import ONE_EXERCISE, swap_videos
from mobilevideogpt.evaluation.metrics import control_scores, score
from mobilevideogpt.evaluation.scoring import group_of

logger = logging.getLogger(__name__)


def evaluate(
    answer: Callable[..., Answered],
    samples: Sequence[dict],
    train_samples: Sequence[Mapping],
    *,
    seed: int,
    batch_size: int,
    max_new_tokens: int,
) -> tuple[dict, list[dict]]:
    """Answer the test prompts with the base, with the adapter, and with the adapter shown other exercises' clips.

    Args:
        answer: Answers the `Batches` of each source with ``max_new_tokens``, as `answers.answer` does.
        samples: The test split, with the key of the cached features of each clip.
        train_samples: The training split; its commonest answers are what the model is compared with.
        seed: Seed of the control's exchange of clips.
        batch_size: Samples in a batch.
        max_new_tokens: Longest answer, in tokens.

    Returns:
        The metrics and one row for each sample.

        The metrics contain ``base``, ``finetuned`` and ``mismatched_video`` as `score` returns them; the last one with
        `control_scores`, or None where all test clips are of one exercise. They also contain ``conclusion``, see
        `conclude`; ``tokens_per_second`` of each; and ``settings``.

        A row contains ``video``, ``exercise``, ``group``, ``prompt``, ``reference``, the three answers, ``shown_video``
        and ``shown_exercise`` (the last three None without a control), ``cut``: which answers have no end, and
        ``frames``: the ``scores`` of the clip's frames, and the positions among them of those ``chosen`` for the video
        encoder.

    Raises:
        InputError: If the test split is empty.
    """
    if not samples:
        raise InputError("the test split is empty; raise annotations.split.test, or stop at `snakemake finetune`")
    by_video = {sample["video"]: sample for sample in samples}
    shown = [by_video[video] if video else None for video in swap_videos(samples, seed)]
    swapped = [
        sample | {name: other[name] for name in ("video", "features")}
        for sample, other in zip(samples, shown, strict=True)
        if other
    ]
    if not swapped:
        logger.warning("the control of the video is not possible: %s", ONE_EXERCISE)
    asked = {BASE: samples, FINETUNED: samples} | ({MISMATCHED: swapped} if swapped else {})
    questions = {source: _batches(of_source, batch_size) for source, of_source in asked.items()}
    answered = answer(questions, max_new_tokens=max_new_tokens)
    given: dict[str, list] = {source: list(chain(*batches)) for source, batches in answered.answers.items()}
    tokens = {source: sum(answer.tokens for answer in answers) for source, answers in given.items()}
    speeds = {source: round(tokens[source] / max(seconds, 1e-9), 2) for source, seconds in answered.seconds.items()}
    given.setdefault(MISMATCHED, [None] * len(samples))
    rows: list[dict[str, Any]] = [
        _row(sample, other, dict(zip(SOURCES, answers, strict=True))) | {"frames": frames}
        for sample, other, frames, *answers in zip(
            samples, shown, chain(*answered.frames), *(given[source] for source in SOURCES), strict=True
        )
    ]
    conclusion = conclude(rows, train_samples)
    task = conclusion.task
    metrics = {
        "base": score(rows, "base", task),
        "finetuned": score(rows, "finetuned", task),
        "mismatched_video": score(rows, "mismatched_video", task) | control_scores(rows, task) if swapped else None,
        "conclusion": conclusion.to_json(),
        "tokens_per_second": speeds,
        "settings": {
            "prompt_names_exercise": task.prompt_names_exercise,
            "free_text": task.free_text,
            "subject": task.subject,
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "seed": seed,
        },
    }
    for name in SOURCES:
        if cut := sum(row["cut"][name] for row in rows):
            logger.warning("%s: %d of %d answers reach %d tokens without an end", name, cut, len(rows), max_new_tokens)
    return metrics, rows


def _batches(samples: Sequence[dict], size: int) -> Batches:
    return [list(samples[start : start + size]) for start in range(0, len(samples), size)]


def _row(sample: Mapping, shown: Mapping | None, answers: Mapping[str, Answer | None]) -> dict:
    prompt, reference = prompt_and_response(sample)
    return {
        "video": sample["video"],
        "exercise": sample["exercise"],
        "group": group_of(sample),
        "prompt": prompt,
        "reference": reference,
        **{name: answer.text if answer else None for name, answer in answers.items()},
        "shown_video": shown["video"] if shown else None,
        "shown_exercise": shown["exercise"] if shown else None,
        "cut": {name: bool(answer and answer.cut) for name, answer in answers.items()},
    }
