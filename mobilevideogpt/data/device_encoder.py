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

    def encode(self, clips: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Tensor] | None]:
        """Return the features of each clip on the CPU, or None if they are not finite in this number format.

        Args:
            clips: Frames of each, as `encoder_frames` returns them.
        """
        # The current device is a thread's own; Triton launches on it.
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            features = []
            while len(features) < len(clips):
                features += self._encode(clips[len(features) : len(features) + self.batch_size])
            return features

    def _encode(self, clips: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Tensor] | None]:
        """Encode clips in a batch; none of them if the device ran out of memory."""
        try:
            pixels = standardise(clips, self.encoders.config.num_frames, self.device)
            encoded = encode(self.encoders, pixels, self.dtype)
            # Here: beside the processes that decode, a CPU takes 50 ms a clip for it.
            finite = torch.stack([t.isfinite().flatten(1).all(1) for t in encoded.values()]).all(0).tolist()
            features = {name: tensor.cpu() for name, tensor in encoded.items()}
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise
        else:
            rows = zip(*features.values(), strict=True)
            return [dict(zip(features, row, strict=True)) if ok else None for ok, row in zip(finite, rows, strict=True)]
        # Here, since the exception keeps the tensors of the failed batch alive.
        self.batch_size //= 2
        log.warning("features: %s ran out of memory; its batch size is now %d clips", self.device, self.batch_size)
        torch.cuda.empty_cache()
        return []
