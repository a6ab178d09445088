"""Annotated clips as the Trainer takes them: token ids from memory, features from the store."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.errors import InputError

log = logging.getLogger(__name__)


class AnnotatedVideos(Dataset):
    """Clips with prompt and answer. Text is tokenised once, here; features are read when an item is asked for.

    Items hold ``input_ids``, ``labels``, ``attention_mask`` (each ``(T,)``), ``video_features`` and
    ``context_features``; `MobileVideoGPTProcessor.pad` makes a batch of them.

    Args:
        annotations: Records with ``video`` and two turns.
        features: Path of each clip to its key in ``store``.
        store: The features.
        processor: Has ``encode_text``, ``num_visual_tokens`` and ``video_token_id``.
        max_text_tokens: Text beyond this many tokens, the video's not counted, is cut off at its end.

    Attributes:
        truncated: How many answers were cut.

    Raises:
        InputError: If a clip has no features, a record is malformed or spells the video's placeholder, or nothing of an
            answer is left to train on.
    """

    def __init__(
        self,
        annotations: Sequence[Mapping],
        features: Mapping[str, str],
        store: FeatureStore,
        processor,
        max_text_tokens: int,
    ):
        lacking = [record["video"] for record in annotations if features.get(record["video"]) not in store]
        if lacking:
            listed = ", ".join(lacking[:10]) + (", ..." if len(lacking) > 10 else "")
            raise store.lacks(f"{store.folder}: {len(lacking)} clips have no features: {listed}")
        self.store = store
        self.keys = [features[record["video"]] for record in annotations]
        self.truncated = 0
        self._texts: list[dict[str, Tensor]] = []
        limit = max_text_tokens + processor.num_visual_tokens
        prompt_lengths: dict[str, int] = {}
        for record in annotations:
            prompt, response = prompt_and_response(record)
            if prompt not in prompt_lengths:
                prompt_lengths[prompt] = len(processor.encode_text(prompt)["input_ids"])
            text = processor.encode_text(prompt, response)
            if len(text["input_ids"]) > limit:
                self.truncated += 1
                text = {name: ids[:limit] for name, ids in text.items()}
            if all(label == IGNORED for label in text["labels"][prompt_lengths[prompt] :]):
                raise InputError(
                    f"{record['video']}: no token of its answer is left within {max_text_tokens} text tokens "
                    f"(its prompt takes {prompt_lengths[prompt] - processor.num_visual_tokens}); "
                    "raise finetune.max_text_tokens or shorten annotations.prompt"
                )
            more = text["input_ids"].count(processor.video_token_id) - processor.num_visual_tokens
            if more:
                raise InputError(
                    f"{record['video']}: its annotation spells a video's placeholder {more} times; take that token out"
                )
            self._texts.append({name: torch.tensor(text[name]) for name in ("input_ids", "labels")})
        if self.truncated:
            log.warning(
                "%d of %d texts are longer than %d tokens and were cut; raise finetune.max_text_tokens to keep all",
                *(self.truncated, len(self), max_text_tokens),
            )

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample, the video's included."""
        return [len(text["input_ids"]) for text in self._texts]

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        text = self._texts[i]
        return {**text, "attention_mask": torch.ones_like(text["input_ids"]), **self.store.read(self.keys[i])}
