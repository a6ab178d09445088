"""The evaluation of an adapter: the base beside it, and the grounding control."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.generation import predict
from mobilevideogpt.evaluation.grounding import swap_videos
from mobilevideogpt.evaluation.metrics import normalise, score, split_answer
from mobilevideogpt.model.adapter import load_finetuned


def evaluate(
    model,
    processor,
    adapter: str | Path,
    records: Sequence[dict],
    features: Mapping[str, str],
    store: FeatureStore,
    *,
    prompt_names_exercise: bool,
    answers: str = "labels",
    seed: int,
    batch_size: int,
    max_new_tokens: int,
    progress: bool = True,
) -> tuple[dict, list[dict]]:
    """Answer the test prompts with the base, with the adapter, and with the adapter shown other exercises' clips.

    Args:
        model: The base; the adapter is put into it in place, so that it is loaded once.
        processor: The model's processor.
        adapter: Folder of the adapter.
        records: Annotations of the test split.
        features: Key of the cached features of each clip path.
        store: Where the features lie.
        prompt_names_exercise: Whether the prompts give the exercise away; noted for whoever reads the scores.
        answers: What the answers are, as in `annotations.source`: all but ``labels`` are free text.
        seed: Of the control's exchange of clips.
        batch_size: Records answered at once.
        max_new_tokens: Longest answer, in tokens.
        progress: Whether to show bars.

    Returns:
        The metrics: ``base``, ``finetuned`` and ``mismatched_video`` as `score` gives them, the last with
        ``kept_exercise`` and ``kept_answer`` (how often the answer stayed as on the clip's own video; the latter over
        the ``n_differing`` records whose shown clip calls for another answer, None if none does), and ``settings``;
        and one row a record: video, prompt, reference, the three answers and shown_video.

    Raises:
        InputError: If the test split is empty or holds one exercise only.
    """
    if not records:
        raise InputError("the test split is empty; raise annotations.split.test, or stop at `snakemake finetune`")
    shown_videos = swap_videos(records, seed)  # first, so that a split that it cannot serve fails at once

    def answer(rows: Sequence[dict], name: str) -> list[str]:
        bar = name if progress else None
        return predict(
            model, processor, rows, features, store, batch_size=batch_size, max_new_tokens=max_new_tokens, progress=bar
        )

    prompts, references = zip(*map(prompt_and_response, records), strict=True)
    base = answer(records, "base")
    model = load_finetuned(model, adapter)
    finetuned = answer(records, "fine-tuned")
    swapped = [record | {"video": video} for record, video in zip(records, shown_videos, strict=True)]
    mismatched = answer(swapped, "mismatched video")

    free = answers != "labels"
    by_video = dict(zip((record["video"] for record in records), references, strict=True))
    control = score(references, mismatched, shown=[by_video[video] for video in shown_videos], free=free)
    pairs = list(zip(finetuned, mismatched, strict=True))

    def asked_for(reference: str) -> str:
        """What the clip alone can tell: where the prompt names the exercise, the feedback."""
        return split_answer(reference, free)[1] if prompt_names_exercise else normalise(reference)

    kept = [
        normalise(a) == normalise(b)
        for (a, b), own, video in zip(pairs, references, shown_videos, strict=True)
        if asked_for(own) != asked_for(by_video[video])  # else a model that looks keeps its answer, too
    ]
    if not free:
        control["kept_exercise"] = sum(split_answer(a)[0] == split_answer(b)[0] for a, b in pairs) / len(pairs)
    control |= {"n_differing": len(kept), "kept_answer": sum(kept) / len(kept) if kept else None}
    metrics = {
        "base": score(references, base, free=free),
        "finetuned": score(references, finetuned, free=free),
        "mismatched_video": control,
        "settings": {
            "prompt_names_exercise": prompt_names_exercise,
            "answers": answers,
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
            "seed": seed,
            "device": str(model.device),
        },
    }
    rows = [
        {
            "video": record["video"],
            "prompt": prompt,
            "reference": reference,
            "base": a,
            "finetuned": b,
            "mismatched_video": c,
            "shown_video": video,
        }
        for record, prompt, reference, a, b, c, video in zip(
            records, prompts, references, base, finetuned, mismatched, shown_videos, strict=True
        )
    ]
    return metrics, rows
