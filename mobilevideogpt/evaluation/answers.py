"""Answers of the base and of the fine-tuned model to all questions, in this process or on every GPU."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from loky import ProcessPoolExecutor
from loky.process_executor import TerminatedWorkerError

from mobilevideogpt.data.features import FeatureStore, UncachedFeatures
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.frames import chosen_frames
from mobilevideogpt.evaluation.generation import Answer, load_for_inference, predict
from mobilevideogpt.model.adapter import load_finetuned
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.processes import work_for

logger = logging.getLogger(__name__)

BASE, FINETUNED, MISMATCHED = SOURCES = ("base", "finetuned", "mismatched_video")
NAMES = {BASE: "base", FINETUNED: "fine-tuned", MISMATCHED: "mismatched video"}  # of the progress bars

Batches = list[list[dict]]  # samples, each with the key of its clip's features


class Answered(NamedTuple):
    """What was answered.

    Attributes:
        answers: Of each source, a list for each batch.
        frames: As `chosen_frames` returns them, for the clips of the first source; a list for each batch.
        seconds: Of each source.
    """

    answers: dict[str, list[list[Answer]]]
    frames: list[list[dict]]
    seconds: dict[str, float]


class Loaded(NamedTuple):
    """What answers: the base, its processor, the folder of the adapter, and the features."""

    model: MobileVideoGPTForConditionalGeneration
    processor: MobileVideoGPTProcessor
    adapter: Path
    store: FeatureStore


def load_to_answer(
    paths: ModelPaths,
    adapter: Path,
    features: str | Path,
    device: str | None = None,
    *,
    precision: str,
    uncached_dtype: str | None = None,
) -> Loaded:
    """Load the base onto a device, see `load_for_inference`, and open the features.

    Args:
        paths: The base and its encoders.
        adapter: Its folder.
        features: The folder of the `FeatureStore`.
        device: Such as ``cuda:1``.
        precision: Of the training.
        uncached_dtype: Number format that features would have, where none are kept; None where they are.
    """
    model = load_for_inference(paths, precision=precision, device=device)
    processor = MobileVideoGPTProcessor.from_pretrained(paths.base)
    store = UncachedFeatures(features, processor, model, uncached_dtype) if uncached_dtype else FeatureStore(features)
    return Loaded(model, processor, adapter, store)


def answer(load: Callable[..., Loaded], questions: Mapping[str, Batches], *, max_new_tokens: int) -> Answered:
    """Answer batches of samples with all GPUs, or in this process if there is one GPU or none, or one batch."""
    gpus = min(torch.cuda.device_count(), len(questions[BASE]))
    if gpus > 1:
        return answer_on_gpus(load, gpus, questions, max_new_tokens=max_new_tokens)
    return answer_here(*load(), questions, max_new_tokens=max_new_tokens)


def answer_here(
    model,
    processor,
    adapter: str | Path,
    store: FeatureStore,
    questions: Mapping[str, Batches],
    *,
    max_new_tokens: int,
    progress: bool = True,
) -> Answered:
    """Answer batches of samples with the base, then with the adapter.

    Args:
        model: The base. The adapter is loaded into it in place, so that the base is loaded once.
        processor: The model's processor.
        adapter: Folder of the adapter.
        store: The features.
        questions: The batches of each of `SOURCES`, in their order; only `BASE` is answered without the adapter.
        max_new_tokens: Longest answer, in tokens.
        progress: Whether to show progress bars.
    """
    answers, seconds = {}, {}
    answering: Any = model
    for source, batches in questions.items():
        if source == FINETUNED:
            answering = load_finetuned(answering, adapter)
        started = time.monotonic()
        options = {"max_new_tokens": max_new_tokens, "progress": NAMES[source] if progress else None}
        answers[source] = predict(answering, processor, batches, store, **options)
        seconds[source] = time.monotonic() - started
    keys = [[sample["features"] for sample in batch] for batch in questions[BASE]]
    frames = [[chosen_frames(store.read_scores(key), model.config) for key in batch] for batch in keys]
    return Answered(answers, frames, seconds)


def answer_on_gpus(load: Callable[..., Loaded], gpus: int, questions: Mapping[str, Batches], **options) -> Answered:
    """Do as `answer_here`, in a process for each GPU, which answers every ``gpus``-th batch.

    The batches, and so the answers, are those of one GPU: padding and the order of sums depend on who shares a batch.

    Args:
        load: Loads for a ``device``. Picklable.
        gpus: Number of processes.
        questions: As for `answer_here`.
        options: As for `answer_here`.

    Raises:
        InputError: If a process is killed.
    """
    shares = [{source: batches[gpu::gpus] for source, batches in questions.items()} for gpu in range(gpus)]
    executor = ProcessPoolExecutor(gpus, initializer=work_for, initargs=(os.getpid(),))
    try:
        futures = [executor.submit(_answer, load, gpu, share, options) for gpu, share in enumerate(shares)]
        results = [future.result() for future in futures]
    except TerminatedWorkerError as error:
        logger.info("%s", error)
        raise InputError(
            "a process that answers was killed, most likely because memory ran out; lower evaluate.batch_size, or let "
            "CUDA_VISIBLE_DEVICES name fewer GPUs"
        ) from None
    finally:
        executor.shutdown(kill_workers=True)
    return merged(results)


def merged(results: Sequence[Answered]) -> Answered:
    """Put the batches of all processes in order; the time of a source is that of its slowest process."""
    answers = {source: _interleaved([result.answers[source] for result in results]) for source in results[0].answers}
    seconds = {source: max(result.seconds[source] for result in results) for source in answers}
    return Answered(answers, _interleaved([result.frames for result in results]), seconds)


def _interleaved(shares: Sequence[list]) -> list:
    whole: list = [None] * sum(map(len, shares))
    for index, share in enumerate(shares):
        whole[index :: len(shares)] = share
    return whole


def _answer(load: Callable[..., Loaded], gpu: int, questions: Mapping[str, Batches], options: Mapping) -> Answered:
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{gpu}"
        torch.cuda.set_device(gpu)  # Triton launches on the current device
    return answer_here(
        *load(device=device), questions, **{**options, "progress": options.get("progress", True) and not gpu}
    )
