"""Samples as the Trainer reads them: token ids from memory, features from the store."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore, missing_error
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.errors import InputError
from mobilevideogpt.wording import counted

log = logging.getLogger(__name__)
LISTED = 10  # clips in a message


class AnnotatedVideos(Dataset):
    """Samples with their features. Text is tokenised once, on construction; features are read on access.

    An item contains ``input_ids``, ``labels``, ``attention_mask`` (each ``(T,)``), ``video_features`` and
    ``context_features``; `MobileVideoGPTProcessor.pad` makes a batch of several.

    Args:
        samples: Samples with ``video``, ``conversations`` and ``features``, the key of the clip's features.
        store: The features.
        processor: Has ``encode_text``, ``num_visual_tokens`` and ``video_token_id``.
        max_text_tokens: Text tokens beyond this number are cut off; visual tokens do not count.

    Attributes:
        truncated: Number of texts that were cut.

    Raises:
        InputError: If a clip has no features, a sample is malformed or contains the video's placeholder, or truncation
            leaves no token of an answer.
    """

    def __init__(self, samples: Sequence[Mapping], store: FeatureStore, processor, max_text_tokens: int):
        missing = [sample["video"] for sample in samples if sample.get("features") not in store]
        if missing:
            listed = ", ".join(missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
            store.invalidate()
            raise missing_error(f"{store.folder}: {counted(len(missing), 'clip{s} {has|have}')} no features: {listed}")
        self.store = store
        self.keys = [sample["features"] for sample in samples]
        prompt_length = cache(lambda prompt: len(processor.encode_text(prompt)["input_ids"]))  # many samples share one
        encoded = [_encode(sample, processor, max_text_tokens, prompt_length) for sample in samples]
        self._texts = [text for text, _ in encoded]
        self.truncated = sum(cut for _, cut in encoded)
        if self.truncated:
            log.warning(
                "%d of %d texts are longer than %d tokens and were cut; raise finetune.max_text_tokens to keep all",
                *(self.truncated, len(self), max_text_tokens),
            )

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample, visual ones included."""
        return [len(text["input_ids"]) for text in self._texts]

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        text = self._texts[i]
        return {**text, "attention_mask": torch.ones_like(text["input_ids"]), **self.store.read(self.keys[i])}


def _encode(
    sample: Mapping, processor, max_text_tokens: int, prompt_length: Callable[[str], int]
) -> tuple[dict[str, Tensor], bool]:
    """Return ``input_ids`` and ``labels`` of a sample, and whether they were cut."""
    prompt, response = prompt_and_response(sample)
    text = processor.encode_text(prompt, response)
    limit = max_text_tokens + processor.num_visual_tokens
    cut = len(text["input_ids"]) > limit
    text = {name: ids[:limit] for name, ids in text.items()}
    if all(label == IGNORED for label in text["labels"][prompt_length(prompt) :]):
        raise InputError(
            f"{sample['video']}: no token of its answer is left within {max_text_tokens} text tokens "
            f"(its prompt takes {prompt_length(prompt) - processor.num_visual_tokens}); "
            "raise finetune.max_text_tokens or shorten annotations.prompt"
        )
    placeholders = text["input_ids"].count(processor.video_token_id) - processor.num_visual_tokens
    if placeholders:
        raise InputError(
            f"{sample['video']}: its text contains the video's placeholder token {placeholders} times; remove it"
        )
    return {name: torch.tensor(text[name]) for name in ("input_ids", "labels")}, cut
