"""Extraction of features: the encoders run on all devices at the same time, and threads write the last features.

Threads are enough: a clip takes few launches and much computing, during which Python waits.
"""

import logging
import math
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from copy import deepcopy
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobilevideogpt.data.device_encoder import DeviceEncoder
from mobilevideogpt.data.encoding import DTYPES
from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.errors import InputError
from mobilevideogpt.log import Progress

log = logging.getLogger(__name__)
WRITERS = 8  # threads
OVERHEAD_BYTES = 4096  # of a file: its header and its last block
Frames = Mapping[str, np.ndarray]  # of a clip, as `encoder_frames` returns them


def extract_features(
    encoders,
    frames: Iterable[Frames],
    missing: Mapping[str, str],
    store: FeatureStore,
    *,
    dtype: str,
    batch_size: int,
    devices: Sequence[str | torch.device] = ("cpu",),
    progress: bool = True,
) -> None:
    """Compute features and write them to a store.

    Args:
        encoders: A model with ``encode_video(pixel_values_videos=, pixel_values_context=)``, for
            ``(B, 16, 3, 224, 224)`` each; it is moved to the first device, and copied to the others.
        frames: Of each clip to encode, in the order of ``missing``.
        missing: Key to path of the features to compute, as `feature_files.missing_features` returns them.
        store: Where the features are written.
        dtype: Number format of the features: float16, bfloat16 or float32.
        batch_size: Clips in a batch; halved for a device whenever it runs out of memory.
        devices: Where the encoders run, at the same time.
        progress: Show a progress bar.

    Raises:
        InputError: If the features do not fit the disk or overflow ``dtype``, or ``frames`` raises it. Completed
            features are kept.
    """
    _check_space(store.folder, encoders.config.feature_shapes, DTYPES[dtype], len(missing))

    batch_size = min(batch_size, math.ceil(len(missing) / len(devices)))
    encoders.to(devices[0])  # a GPU copies them at once, cores that decode take seconds
    copies = [deepcopy(encoders) for _ in devices[1:]]
    of_devices = zip([encoders, *copies], devices, strict=True)
    ready = [DeviceEncoder(model, device, batch_size, DTYPES[dtype]) for model, device in of_devices]
    idle = [encoder for number in range(2) for encoder in ready if number < encoder.threads]
    bar = Progress(total=len(missing), desc="features", unit="clip", disable=not progress)
    with bar, ThreadPoolExecutor(WRITERS) as writers, ThreadPoolExecutor(len(idle)) as threads:
        writing: deque[Future] = deque()
        for key, features in _encode_all(threads, idle, zip(missing, frames, strict=True), batch_size):
            if features is None:
                raise InputError(
                    f"{missing[key]}: non-finite features in {dtype}; set features.dtype to bfloat16 or float32"
                )
            writing.append(writers.submit(store.write, key, features))
            while len(writing) > 2 * batch_size:
                writing.popleft().result()
            bar.update()
        for future in writing:
            future.result()


def _encode_all(
    threads: ThreadPoolExecutor, idle: list[DeviceEncoder], frames: Iterator[tuple[str, Frames]], batch_size: int
) -> Iterator[tuple[str, dict[str, Tensor] | None]]:
    """Encode the frames of clips, by key, on the devices; yield the features of one clip at a time.

    The calling thread reads batches and waits for devices: Ctrl-C interrupts this thread alone. It encodes, too, if
    the one device is a CPU, so that nobody waits for the rest of a batch there.
    """
    if len(idle) == 1:
        while batch := dict(islice(frames, batch_size)):
            yield from zip(batch, idle[0].encode(list(batch.values())), strict=True)
        return
    running: dict[Future, tuple[DeviceEncoder, list[str]]] = {}
    while True:
        batch = dict(islice(frames, batch_size)) if idle else {}
        if batch:
            encoder = idle.pop(0)  # of the device that has waited longest
            running[threads.submit(encoder.encode, list(batch.values()))] = encoder, list(batch)
        if not running:
            return
        # While a device is idle, the next batch is read at once, and an error of another device found all the same.
        finished, _ = wait(running, timeout=0 if batch and idle else None, return_when=FIRST_COMPLETED)
        for future in finished:
            encoder, keys = running.pop(future)
            idle.append(encoder)
            yield from zip(keys, future.result(), strict=True)


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
