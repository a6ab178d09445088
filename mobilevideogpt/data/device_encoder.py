"""The frozen encoders on one device, for a thread of its own: frames of clips to features, in batches that fit."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from mobilevideogpt.data.encoding import encode
from mobilevideogpt.video.pixels import standardise

log = logging.getLogger(__name__)


class DeviceEncoder:
    """Encoders on a device, and the number of clips that it encodes at a time.

    Args:
        encoders: A model with ``encode_video(pixel_values_videos=, pixel_values_context=)``, for
            ``(B, 16, 3, 224, 224)`` each; it is moved to ``device``.
        device: Where the encoders run.
        batch_size: Clips in a batch; halved for good whenever the device runs out of memory.
        dtype: Number format of the features.
    """

    def __init__(self, encoders, device: str | torch.device, batch_size: int, dtype: torch.dtype):
        self.device = torch.device(device)
        self.encoders = encoders.to(self.device).eval()
        self.batch_size, self.dtype = batch_size, dtype

    def encode(self, clips: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Tensor]]:
        """Return the features of each clip, on the CPU, from its frames, as `encoder_frames` returns them."""
        # The current device is a thread's own; Triton launches on it.
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            features = []
            while len(features) < len(clips):
                features += self._encode(clips[len(features) : len(features) + self.batch_size])
            return features

    def _encode(self, clips: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Tensor]]:
        """Encode clips in a batch; none of them if the device ran out of memory."""
        try:
            pixels = standardise(clips, self.encoders.config.num_frames, self.device)
            features = encode(self.encoders, pixels, self.dtype)
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise
        else:
            return [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]
        # Here, since the exception keeps the tensors of the failed batch alive.
        self.batch_size //= 2
        log.warning("features: %s ran out of memory; its batch size is now %d clips", self.device, self.batch_size)
        torch.cuda.empty_cache()
        return []
