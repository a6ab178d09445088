"""Pixels to features: the frozen encoders applied to batches of clips."""

from collections.abc import Mapping

import torch
from torch import Tensor

PIXELS = ("pixel_values_videos", "pixel_values_context")
FEATURES = ("video_features", "context_features")
SCORES = "frame_scores"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@torch.no_grad()
def encode(encoders, pixels: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Encode a batch of clips.

    Args:
        encoders: A model with ``encode_video``.
        pixels: ``(clips, frames, 3, 224, 224)`` by encoder, on its device, as `pixels.standardise` returns them.
        dtype: Number format of the result.

    Returns:
        The features, and ``frame_scores`` in float32, see `mobilevideogpt.model.selection`; on the device of the
        pixels, with the batch as first dimension.
    """
    *features, scores = encoders.encode_video(**pixels, output_scores=True)
    return {name: tensor.to(dtype) for name, tensor in zip(FEATURES, features, strict=True)} | {SCORES: scores}


@torch.no_grad()
def encode_batch(batch: Mapping[str, Tensor], encoders, dtype: torch.dtype) -> dict[str, Tensor]:
    """Replace the pixels of a batch, each ``(B, 16, 3, 224, 224)``, by their features in ``dtype``."""
    features = encoders.encode_video(**{name: batch[name] for name in PIXELS})
    rest = {name: value for name, value in batch.items() if name not in PIXELS}
    return rest | {name: tensor.to(dtype) for name, tensor in zip(FEATURES, features, strict=True)}
