"""Samples as the Trainer reads them: token ids from memory, features from the store."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
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
        stored = store.stored(sample.get("features") for sample in samples)
        missing = [sample["video"] for sample in samples if sample.get("features") not in stored]
        if missing:
            listed = ", ".join(missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
            store.invalidate()
            raise missing_error(f"{store.folder}: {counted(len(missing), 'clip{s} {has|have}')} no features: {listed}")
        self.store = store
        self.keys = [sample["features"] for sample in samples]
        # With one visual token; many samples share a prompt.
        prompt_length = cache(lambda prompt: len(processor.encode_text(prompt, num_visual_tokens=1)["input_ids"]))
        self._num_visual_tokens, self._video_token_id = processor.num_visual_tokens, processor.video_token_id
        self._texts = [_Text.of(sample, processor, max_text_tokens, prompt_length) for sample in samples]
        self.truncated = sum(text.cut for text in self._texts)
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
        return [len(text.ids) + self._num_visual_tokens for text in self._texts]

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        text, visual = self._texts[i], self._num_visual_tokens
        item = {
            "input_ids": _with_run(text.ids, text.video, self._video_token_id, visual),
            "labels": _with_run(text.labels, text.video, IGNORED, visual),
        }
        mask = torch.ones_like(item["input_ids"])
        return {**item, "attention_mask": mask, **self.store.read(self.keys[i])}


class _Text(NamedTuple):
    """Token ids and labels of a sample, int32, without the visual tokens, of which there are thousands.

    Attributes:
        ids: ``(T,)``.
        labels: ``(T,)``.
        video: Place of the visual tokens among the others.
        cut: Whether the text was longer.
    """

    ids: np.ndarray
    labels: np.ndarray
    video: int
    cut: bool

    @classmethod
    def of(cls, sample: Mapping, processor, max_text_tokens: int, prompt_length: Callable[[str], int]) -> "_Text":
        """Encode a sample.

        Raises:
            InputError: See `AnnotatedVideos`.
        """
        prompt, response = prompt_and_response(sample)
        text = processor.encode_text(prompt, response, num_visual_tokens=1)
        cut = len(text["input_ids"]) > max_text_tokens + 1
        ids, labels = (text[name][: max_text_tokens + 1] for name in ("input_ids", "labels"))
        if all(label == IGNORED for label in labels[prompt_length(prompt) :]):
            raise InputError(
                f"{sample['video']}: no token of its answer is left within {max_text_tokens} text tokens "
                f"(its prompt takes {prompt_length(prompt) - 1}); "
                "raise finetune.max_text_tokens or shorten annotations.prompt"
            )
        if placeholders := ids.count(processor.video_token_id) - 1:
            raise InputError(
                f"{sample['video']}: its text contains the video's placeholder token {placeholders} times; remove it"
            )
        video = ids.index(processor.video_token_id)
        for row in (ids, labels):
            del row[video]
        return cls(np.array(ids, np.int32), np.array(labels, np.int32), video, cut)


def _with_run(row: np.ndarray, place: int, value: int, length: int) -> Tensor:
    """Return a row as int64, with ``length`` times ``value`` inserted at ``place``."""
    return torch.from_numpy(np.insert(row.astype(np.int64), place, np.full(length, value)))
