"""What the frozen encoders say of each clip: computed once, kept under the digest of all that it depends on."""

import hashlib
import logging
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from loky import ProcessPoolExecutor
from loky.process_executor import TerminatedWorkerError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, read_json, replacing
from mobilevideogpt.log import Progress
from mobilevideogpt.video.frames import as_reader
from mobilevideogpt.video.pixels import normalised

log = logging.getLogger(__name__)
NAMES = ("video_features", "context_features")
PIXELS = ("pixel_values_videos", "pixel_values_context")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
WRITERS = 4  # threads


def feature_key(clip_digest: str, encoder_digest: str, settings: Mapping) -> str:
    """Digest of everything that shapes a clip's features.

    Args:
        clip_digest: SHA-256 of the clip's file.
        encoder_digest: Digest of the encoders' weights.
        settings: Frames, number format, code of the extractor: whatever else changes the result.
    """
    return json_digest({"clip": clip_digest, "encoder": encoder_digest, "settings": dict(settings)})


class FeatureStore:
    """Features in ``<folder>/<first two digits>/<key>.safetensors``, each file written whole and checked when read.

    What is found lost or damaged is deleted together with the lists ``<folder>/*.json`` of what is there, so that the
    next run makes the lists anew, and with them what is lacking.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the features of ``key`` stand, there or not."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str | None) -> bool:
        return key is not None and self.path(key).is_file()

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep ``tensors`` (on the CPU, any number format) under ``key``.

        Raises:
            InputError: If they cannot be written.
        """
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(self.path(key)) as temporary:
            try:
                save_file(tensors, temporary, metadata={"sha256": _digest(tensors)})
            except SafetensorError as error:
                again = "free some space, and type the same command again"
                raise InputError(f"{self.path(key)}: cannot be written ({error}); {again}") from None

    def read(self, key: str) -> dict[str, Tensor]:
        """Return ``video_features`` ``(chunks, tokens, width)`` and ``context_features`` ``(frames, tokens, width)``.

        Raises:
            InputError: If the file is missing or damaged.
        """
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                expected = (file.metadata() or {}).get("sha256")
        except FileNotFoundError:
            raise self.lacks(f"{path}: these features are missing") from None
        except (SafetensorError, OSError) as error:
            raise self.lacks(f"{path}: damaged ({error})", key) from None
        if _digest(tensors) != expected:
            raise self.lacks(f"{path}: its content is not what was written", key)
        return tensors

    def lacks(self, what: str, key: str | None = None) -> InputError:
        """Delete ``key`` and the lists of what is there, and return the error to raise."""
        for path in [*self.folder.glob("*.json"), *([self.path(key)] if key else [])]:
            path.unlink(missing_ok=True)
        return InputError(f"{what}; the same command again computes what is lacking")

    def holds(self, key: str) -> bool:
        """Whether the file of ``key`` is there in its full length; one that is cut short is logged and deleted."""
        path = self.path(key)
        try:
            with safe_open(path, framework="pt"):  # compares the length with the header's; the rest is left to `read`
                return True
        except FileNotFoundError:
            return False
        except (SafetensorError, OSError) as error:
            log.warning("%s: damaged (%s); computed anew", path, error)
            path.unlink()
            return False


class UncachedFeatures(FeatureStore):
    """In a store's place where features are not kept: what is read is decoded, and may be encoded, at that moment.

    Args:
        folder: Where the lists of what there is lie; among them ``clips.json``, the file of each key.
        processor: Has ``encode_video(path)``.
        encoders: Has ``encode_video``; without it, pixels are read, for `with_features` to encode a batch at a time.
        dtype: What features would be kept in; they are rounded to it all the same.
    """

    def __init__(self, folder: str | Path, processor, encoders=None, dtype: str = "float32"):
        super().__init__(folder)
        self.processor, self.encoders, self.dtype = processor, encoders, DTYPES[dtype]
        self.files = read_json(self.folder / "clips.json", remedy="`snakemake features` makes it")

    def __contains__(self, key: str | None) -> bool:
        return key in self.files

    def read(self, key: str) -> dict[str, Tensor]:
        """Return features as `FeatureStore.read` does, or without encoders what ``processor.encode_video`` does."""
        pixels = self.processor.encode_video(self.files[key])
        if self.encoders is None:
            return pixels
        features = encode(self.encoders, [pixels], self.encoders.device, self.dtype)
        return {name: tensor[0] for name, tensor in features.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())  # the bytes, of bfloat16 too
    return digest.hexdigest()


def extract_features(
    model,
    read: Callable[[str, str], Mapping[str, np.ndarray]],
    clips: Mapping[str, str],
    store: FeatureStore,
    encoder_digest: str,
    settings: Mapping,
    batch_size: int,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, str]:
    """Compute the features that ``store`` lacks; meanwhile the next clips are decoded, the last ones written.

    Processes decode: threads would take Python's lock so often that the encoders' kernels were launched five times as
    slowly. Threads write.

    Args:
        model: Has ``encode_video(pixel_values_videos=, pixel_values_context=)``, for ``(B, 16, 3, 224, 224)`` each.
        read: Gives frames of a path of a digest, as `mobilevideogpt.video.frames.clip_frames` does; it runs elsewhere,
            so it has to be picklable.
        clips: Path to SHA-256 of each clip. Clips of equal content are encoded once.
        store: Where features are kept.
        encoder_digest: Digest of the encoders' weights.
        settings: What else belongs to the key; ``dtype`` (float16, bfloat16, float32) is what the features are kept in.
        batch_size: Clips encoded at a time; half as many, and so on, where the device's memory does not suffice.
        device: Where the encoders run; the model is moved there.
        workers: Processes that decode, of one clip each; by default one a core.
        progress: Tell how far it is.

    Returns:
        Path to key of each clip.

    Raises:
        InputError: If a clip cannot be decoded, the features do not fit the disk, or overflow ``dtype``; or if a
            process that decodes is killed.
    """
    dtype = DTYPES[settings["dtype"]]
    keys = {path: feature_key(digest, encoder_digest, settings) for path, digest in clips.items()}
    unique = {key: path for path, key in sorted(keys.items(), reverse=True)}  # of equal clips the first
    missing = sorted(path for key, path in unique.items() if not store.holds(key))
    log.info("features: %d clips, %d of other content, %d to compute", len(keys), len(unique), len(missing))
    if not missing:
        return keys
    _check_space(store.folder, model.config.feature_shapes, dtype, len(missing))

    def write(path: str, features: dict[str, Tensor]) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in features.values()):
            raise InputError(
                f"{path}: its features are not finite as {settings['dtype']}; set features.dtype to bfloat16 or float32"
            )
        store.write(keys[path], features)

    workers = min(workers or os.cpu_count() or 1, len(missing))
    readers, writers = _Readers(workers), ThreadPoolExecutor(WRITERS)
    bar = Progress(total=len(missing), desc="features", unit="clip", disable=not progress)
    with bar, writers, readers:  # what is encoded is written, whatever comes
        upcoming = readers.ahead(read, [(path, clips[path]) for path in missing], batch_size + workers)
        model = model.to(device).eval()
        done, batch, writing = 0, [], deque()
        while done < len(missing):
            batch += islice(upcoming, max(0, batch_size - len(batch)))
            try:
                pixels = [normalised(frames, model.config.num_frames, device) for frames in batch[:batch_size]]
                features = encode(model, pixels, device, dtype)
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size //= 2
                log.warning("features: too little memory on the device; %d clips at a time from here", batch_size)
                torch.cuda.empty_cache()
                continue
            rows = [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]
            writing += [writers.submit(write, *pair) for pair in zip(missing[done:], rows, strict=False)]
            while len(writing) > 2 * batch_size:
                writing.popleft().result()
            done, batch = done + len(rows), batch[batch_size:]
            bar.update(len(rows))
        for future in writing:
            future.result()
    return keys


class _Readers(ProcessPoolExecutor):
    """Processes that decode; none outlives the block that they are used in."""

    def __init__(self, workers: int):
        super().__init__(workers, initializer=as_reader, initargs=(os.getpid(),))

    def __exit__(self, *_):
        self.shutdown(kill_workers=True)

    def ahead(self, function: Callable, arguments: list[tuple], depth: int) -> Iterator:
        """Return ``function(*arguments)`` in order; up to ``depth`` are computed beforehand, from now on."""
        upcoming = iter(arguments)
        waiting = deque(self.submit(function, *next_) for next_ in islice(upcoming, depth))

        def results():
            while waiting:
                try:
                    result = waiting.popleft().result()
                    waiting.extend(self.submit(function, *next_) for next_ in islice(upcoming, 1))
                except TerminatedWorkerError as error:
                    log.info("%s", error)
                    raise InputError(
                        "a process that decodes clips was killed, for want of memory most likely; the same command "
                        "again goes on where this one ended, and takes less memory if --cores is lower"
                    ) from None
                yield result

        return results()


@torch.no_grad()
def encode(model, pixels: list[Mapping[str, Tensor]], device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Features, on the CPU in ``dtype``, of clips from a processor's ``encode_video``; ``model`` is on ``device``."""
    batch = {name: torch.stack([clip[name].to(device, non_blocking=True) for clip in pixels]) for name in PIXELS}
    return {name: tensor.cpu() for name, tensor in with_features(batch, model, dtype).items()}


@torch.no_grad()
def with_features(batch: Mapping[str, Tensor], encoders, dtype: torch.dtype) -> dict[str, Tensor]:
    """A batch whose pixels, each ``(B, 16, 3, 224, 224)``, are replaced by their features in ``dtype``."""
    features = encoders.encode_video(**{name: batch[name] for name in PIXELS})
    rest = {name: value for name, value in batch.items() if name not in PIXELS}
    return rest | {name: tensor.to(dtype) for name, tensor in zip(NAMES, features, strict=True)}


def _check_space(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, clips: int) -> None:
    """Refuse to begin if the features do not fit the disk."""
    a_clip = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize + 4096  # a header and a block
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    log.info("features take %.2f GB, %.2f GB are free", a_clip * clips / 1e9, free / 1e9)
    if a_clip * clips > free:
        raise InputError(
            f"{folder}: the features of {clips} clips take {a_clip * clips / 1e9:.2f} GB, but {free / 1e9:.2f} GB are "
            "free; free some, make the folder a link to a larger disk, or set features.cache: false"
        )
