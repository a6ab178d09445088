"""Extraction of features: processes decode the next clips while the encoders run, and threads write the last ones.

Decoding threads would hold Python's lock so often that the encoders' kernels were launched five times as slowly.
"""

import logging
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilevideogpt.data.encoding import DTYPES, encode
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.log import Progress
from mobilevideogpt.video.decoding_pool import DecodingPool
from mobilevideogpt.video.pixels import standardise

log = logging.getLogger(__name__)
WRITERS = 4  # threads
OVERHEAD_BYTES = 4096  # of a file: its header and its last block


def extract_features(
    encoders,
    read: Callable[[str, str], Mapping[str, np.ndarray]],
    clips: Mapping[str, str],
    missing: Mapping[str, str],
    store: FeatureStore,
    *,
    dtype: str,
    batch_size: int,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Compute features and write them to a store.

    Args:
        encoders: A model with ``encode_video(pixel_values_videos=, pixel_values_context=)``, for
            ``(B, 16, 3, 224, 224)`` each; it is moved to ``device``.
        read: Returns the frames of a path whose file has a digest, as `mobilevideogpt.video.frames.clip_frames` does.
            It runs in other processes, so it must be picklable.
        clips: Path to SHA-256 of each clip.
        missing: Key to path of the features to compute, as `feature_files.missing_features` returns them.
        store: Where the features are written.
        dtype: Number format of the features: float16, bfloat16 or float32.
        batch_size: Clips in a batch; halved whenever the device runs out of memory.
        device: Where the encoders run.
        workers: Processes that decode, each one clip at a time; one a core by default.
        progress: Show a progress bar.

    Raises:
        InputError: If a clip does not decode, the features do not fit the disk or overflow ``dtype``, or a process that
            decodes is killed. Completed features are kept.
    """
    _check_space(store.folder, encoders.config.feature_shapes, DTYPES[dtype], len(missing))

    def write(key: str, features: dict[str, Tensor]) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in features.values()):
            raise InputError(
                f"{missing[key]}: non-finite features in {dtype}; set features.dtype to bfloat16 or float32"
            )
        store.write(key, features)

    workers = min(workers or os.cpu_count() or 1, len(missing))
    bar = Progress(total=len(missing), desc="features", unit="clip", disable=not progress)
    writers, readers = ThreadPoolExecutor(WRITERS), DecodingPool(workers)
    with bar, writers, readers:  # on an error, too, the readers are killed and the writers finish
        arguments = [(path, clips[path]) for path in missing.values()]
        frames = readers.map_ahead(read, arguments, batch_size + workers)
        encoded = _encode_all(encoders.to(device).eval(), frames, batch_size, device, DTYPES[dtype])
        writing: deque[Future] = deque()
        for key, features in zip(missing, encoded, strict=True):
            writing.append(writers.submit(write, key, features))
            while len(writing) > 2 * batch_size:
                writing.popleft().result()
            bar.update()
        for future in writing:
            future.result()


def _encode_all(
    encoders, frames: Iterator, batch_size: int, device: str | torch.device, dtype: torch.dtype
) -> Iterator[dict[str, Tensor]]:
    """Encode the frames of clips in batches; yield the features of one clip at a time."""
    batch: list[Mapping[str, np.ndarray]] = []
    while True:
        batch += islice(frames, max(0, batch_size - len(batch)))
        if not batch:
            return
        try:
            pixels = [standardise(of_clip, encoders.config.num_frames, device) for of_clip in batch[:batch_size]]
            features = encode(encoders, pixels, device, dtype)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            log.warning("features: the device ran out of memory; the batch size is now %d clips", batch_size)
            torch.cuda.empty_cache()
            continue
        batch = batch[batch_size:]
        for row in zip(*features.values(), strict=True):
            yield dict(zip(features, row, strict=True))


def _check_space(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, clips: int) -> None:
    """Raise InputError if the features do not fit the disk."""
    clip_bytes = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize + OVERHEAD_BYTES
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    log.info("features take %.2f GB, %.2f GB are free", clip_bytes * clips / 1e9, free / 1e9)
    if clip_bytes * clips > free:
        raise InputError(
            f"{folder}: the features of {clips} clips take {clip_bytes * clips / 1e9:.2f} GB, but {free / 1e9:.2f} GB "
            "are free; free some, make the folder a link to a larger disk, or set features.cache: false"
        )
