"""The frozen encoders on one device, for a thread of its own: frames of clips to features, in batches that fit."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from mobilevideogpt.data.encoding import encode
from mobilevideogpt.video.pixels import standardise

log = logging.getLogger(__name__)
FINITE = "finite"


class DeviceEncoder:
    """Encoders on a device, and the number of clips that it encodes at a time.

    Two threads keep a GPU busy: one launches the kernels of a batch while the other waits for the features of the last.

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
        self.threads = 2 if self.device.type == "cuda" else 1
        self._launching = Lock()

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
            with self._launching:
                features, copied = self._launch(clips)
        except torch.OutOfMemoryError:
            if len(clips) == 1:
                raise
        else:
            if copied:
                copied.synchronize()
            finite = features.pop(FINITE).tolist()
            rows = zip(*features.values(), strict=True)
            return [dict(zip(features, row, strict=True)) if ok else None for ok, row in zip(finite, rows, strict=True)]
        # Here, since the exception keeps the tensors of the failed batch alive.
        self.batch_size = min(self.batch_size, len(clips) // 2)
        log.warning("features: %s ran out of memory; its batch size is now %d clips", self.device, self.batch_size)
        torch.cuda.empty_cache()
        return []

    def _launch(self, clips: Sequence[Mapping[str, np.ndarray]]) -> tuple[dict[str, Tensor], torch.cuda.Event | None]:
        """Return features on the CPU, and an event after which they are there; with `FINITE`, whether a clip's are."""
        pixels = standardise(clips, self.encoders.config.num_frames, self.device)
        encoded = encode(self.encoders, pixels, self.dtype)
        # Here: beside the processes that decode, a CPU takes 50 ms a clip for it.
        encoded[FINITE] = torch.stack([t.isfinite().flatten(1).all(1) for t in encoded.values()]).all(0)
        if self.device.type != "cuda":
            return encoded, None
        # Pinned memory is used again; new memory would cost the cores as much as a part of the decoding.
        on_host = {name: torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for name, t in encoded.items()}
        for name, tensor in encoded.items():
            on_host[name].copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # the thread sleeps; by default, it occupies a core
        copied.record()
        return on_host, copied
