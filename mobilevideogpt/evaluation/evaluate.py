"""The evaluation of a fine-tuned model: beside the base, and with the grounding control."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import predict
from mobilevideogpt.evaluation.grounding import swap_videos
from mobilevideogpt.evaluation.metrics import LABELS, fold, is_free_text, score, split_answer
from mobilevideogpt.model.adapter import load_finetuned


def evaluate(
    model,
    processor,
    adapter: str | Path,
    samples: Sequence[dict],
    store: FeatureStore,
    *,
    prompt_names_exercise: bool,
    answers: str = LABELS,
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
        store: The cached features.
        prompt_names_exercise: Whether the prompts name the exercise. It decides what the control compares.
        answers: The value of ``annotations.source``; all but ``labels`` are free text.
        seed: Seed of the control's exchange of clips.
        batch_size: Samples in a batch.
        max_new_tokens: Longest answer, in tokens.
        progress: Whether to show progress bars.

    Returns:
        The metrics and one row for each sample.

        The metrics contain ``base``, ``finetuned`` and ``mismatched_video`` as `score` returns them, and ``settings``.
        ``mismatched_video`` has two more scores: ``kept_exercise`` is how often the answer names the same exercise as
        for the prompt's own clip; ``kept_answer`` is how often the whole answer stays the same, over the
        ``n_differing`` samples whose shown clip calls for another answer (None if there are none).

        A row contains ``video``, ``prompt``, ``reference``, the three answers and ``shown_video``.

    Raises:
        InputError: If the test split is empty or has one exercise only.
    """
    if not samples:
        raise InputError("the test split is empty; raise annotations.split.test, or stop at `snakemake finetune`")
    by_video = {sample["video"]: sample for sample in samples}
    # Before the answers are computed, so that a split that does not allow the control fails at once.
    shown = [by_video[video] for video in swap_videos(samples, seed)]
    prompts, references = zip(*map(prompt_and_response, samples), strict=True)
    shown_references = [prompt_and_response(sample)[1] for sample in shown]

    def answer(rows: Sequence[Mapping], name: str) -> list[str]:
        options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        return predict(model, processor, rows, store, **options, progress=name if progress else None)

    base = answer(samples, "base")
    model = load_finetuned(model, adapter)
    finetuned = answer(samples, "fine-tuned")
    swapped = [
        sample | {name: other[name] for name in ("video", "features")}
        for sample, other in zip(samples, shown, strict=True)
    ]
    mismatched = answer(swapped, "mismatched video")

    free_text = is_free_text(answers)
    kept = _kept(
        finetuned,
        mismatched,
        references,
        shown_references,
        prompt_names_exercise=prompt_names_exercise,
        free_text=free_text,
    )
    metrics = {
        "base": score(references, base, free_text=free_text),
        "finetuned": score(references, finetuned, free_text=free_text),
        "mismatched_video": score(references, mismatched, shown=shown_references, free_text=free_text) | kept,
        "settings": {
            "prompt_names_exercise": prompt_names_exercise,
            "answers": answers,
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "seed": seed,
            "device": str(model.device),
        },
    }
    names = ("video", "prompt", "reference", "base", "finetuned", "mismatched_video", "shown_video")
    videos, shown_videos = ([sample["video"] for sample in rows] for rows in (samples, shown))
    columns = (videos, prompts, references, base, finetuned, mismatched, shown_videos)
    return metrics, [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _kept(
    finetuned: Sequence[str],
    mismatched: Sequence[str],
    references: Sequence[str],
    shown_references: Sequence[str],
    *,
    prompt_names_exercise: bool,
    free_text: bool,
) -> dict:
    """Measure how often the control's answer stays as it is for the prompt's own clip."""

    def visible(reference: str) -> str:
        """The part of an answer that only the clip can tell: the feedback, where the prompt names the exercise."""
        return split_answer(reference, free_text)[1] if prompt_names_exercise else fold(reference)

    pairs = list(zip(finetuned, mismatched, strict=True))
    kept = [
        fold(own) == fold(other)
        for (own, other), reference, shown in zip(pairs, references, shown_references, strict=True)
        if visible(reference) != visible(shown)  # else a model that looks at the video keeps its answer too
    ]
    scores = {"n_differing": len(kept), "kept_answer": sum(kept) / len(kept) if kept else None}
    if not free_text:
        same = [split_answer(own)[0] == split_answer(other)[0] for own, other in pairs]
        scores["kept_exercise"] = sum(same) / len(same)
    return scores
