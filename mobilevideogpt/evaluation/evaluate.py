"""The evaluation of a fine-tuned model: beside the base, and with the grounding control."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.conclusion import conclude
from mobilevideogpt.evaluation.generation import Answer, predict
from mobilevideogpt.evaluation.grounding import ONE_EXERCISE, swap_videos
from mobilevideogpt.evaluation.metrics import control_scores, score
from mobilevideogpt.evaluation.scoring import group_of
from mobilevideogpt.model.adapter import load_finetuned
from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK, MobileVideoGPTConfig
from mobilevideogpt.model.selection import select_frames

logger = logging.getLogger(__name__)

SOURCES = ("base", "finetuned", "mismatched_video")


def evaluate(
    model,
    processor,
    adapter: str | Path,
    samples: Sequence[dict],
    train_samples: Sequence[Mapping],
    store: FeatureStore,
    *,
    seed: int,
    batch_size: int,
    max_new_tokens: int,
    progress: bool = True,
) -> tuple[dict, list[dict]]:
    """Answer the test prompts with the base, with the adapter, and with the adapter shown other exercises' clips.

    Args:
        model: The base. The adapter is loaded into it in place, so that the base is loaded once.
        processor: The model's processor.
        adapter: Folder of the adapter.
        samples: The test split, with the key of the cached features of each clip.
        train_samples: The training split; its commonest answers are what the model is compared with.
        store: The cached features.
        seed: Seed of the control's exchange of clips.
        batch_size: Samples in a batch.
        max_new_tokens: Longest answer, in tokens.
        progress: Whether to show progress bars.

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
    speeds: dict[str, float] = {}

    def answer(rows: Sequence[Mapping], source: str, name: str) -> list[Answer]:
        started = time.monotonic()
        options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        answers = predict(model, processor, rows, store, **options, progress=name if progress else None)
        speeds[source] = round(sum(given.tokens for given in answers) / max(time.monotonic() - started, 1e-9), 2)
        return answers

    given: dict[str, Sequence[Answer | None]] = {"base": answer(samples, "base", "base")}
    model = load_finetuned(model, adapter)
    given["finetuned"] = answer(samples, "finetuned", "fine-tuned")
    swapped = [
        sample | {name: other[name] for name in ("video", "features")}
        for sample, other in zip(samples, shown, strict=True)
        if other
    ]
    if swapped:
        given["mismatched_video"] = answer(swapped, "mismatched_video", "mismatched video")
    else:
        logger.warning("the control of the video is not possible: %s", ONE_EXERCISE)
        given["mismatched_video"] = [None] * len(samples)

    rows: list[dict[str, Any]] = [
        _row(sample, other, dict(zip(SOURCES, answers, strict=True)))
        | {"frames": chosen_frames(store.read_scores(sample["features"]), model.config)}
        for sample, other, *answers in zip(samples, shown, *(given[name] for name in SOURCES), strict=True)
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
            "device": str(model.device),
        },
    }
    for name in SOURCES:
        if cut := sum(row["cut"][name] for row in rows):
            logger.warning("%s: %d of %d answers reach %d tokens without an end", name, cut, len(rows), max_new_tokens)
    return metrics, rows


def chosen_frames(scores: Tensor, config: MobileVideoGPTConfig) -> dict[str, list]:
    """Return the scores of a clip's frames and the positions of those that the video encoder received."""
    chunks = scores.unflatten(0, (-1, FRAMES_PER_CHUNK))
    chosen = select_frames(chunks, config.video_num_frames // len(chunks), config.select_highest)
    chosen = chosen + FRAMES_PER_CHUNK * torch.arange(len(chunks))[:, None]
    return {"scores": [round(score, 3) for score in scores.tolist()], "chosen": chosen.flatten().tolist()}


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
