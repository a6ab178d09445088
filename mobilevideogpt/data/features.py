"""What the frozen encoders say of each clip: computed once, kept under the digest of all that it depends on."""

import hashlib
import logging
import math
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, json_digest, read_json, replacing
from mobilevideogpt.log import Progress

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


class CheckedProcessor:
    """A processor for clips of known digests: one whose file changed since is refused, so that none gets its key.

    Args:
        processor: Has ``encode_video(path)``.
        digests: Path to SHA-256 of each clip.
    """

    def __init__(self, processor, digests: Mapping[str, str]):
        self.processor, self.digests = processor, digests

    def encode_video(self, path: str) -> dict[str, Tensor]:
        """Return what ``processor.encode_video`` does.

        Raises:
            InputError: If the file is not that of the digest any more.
        """
        pixels = self.processor.encode_video(path)
        if file_digest(path) != self.digests[path]:
            raise InputError(f"{path}: the file changed after it was checked; the same command again checks it anew")
        return pixels


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())  # the bytes, of bfloat16 too
    return digest.hexdigest()


def extract_features(
    model,
    processor,
    clips: Mapping[str, str],
    store: FeatureStore,
    encoder_digest: str,
    settings: Mapping,
    batch_size: int,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, str]:
    """Compute the features that ``store`` lacks; threads decode the next clips and write the last ones meanwhile.

    Decoders, resizers and the disk wait outside of Python's lock, so that threads suffice and nothing is copied
    between processes.

    Args:
        model: Has ``encode_video(pixel_values_videos=, pixel_values_context=)``, for ``(B, 16, 3, 224, 224)`` each.
        processor: Has ``encode_video(path)``, which returns those two for one clip.
        clips: Path to SHA-256 of each clip. Clips of equal content are encoded once.
        store: Where features are kept.
        encoder_digest: Digest of the encoders' weights.
        settings: What else belongs to the key; ``dtype`` (float16, bfloat16, float32) is what the features are kept in.
        batch_size: Clips encoded at a time; half as many, and so on, where the device's memory does not suffice.
        device: Where the encoders run; the model is moved there.
        workers: Clips decoded at a time; by default one a core.
        progress: Tell how far it is.

    Returns:
        Path to key of each clip.

    Raises:
        InputError: If a clip cannot be decoded, the features do not fit the disk, or overflow ``dtype``.
    """
    dtype = DTYPES[settings["dtype"]]
    keys = {path: feature_key(digest, encoder_digest, settings) for path, digest in clips.items()}
    unique = {key: path for path, key in sorted(keys.items(), reverse=True)}  # of equal clips the first
    missing = sorted(path for key, path in unique.items() if not store.holds(key))
    log.info("features: %d clips, %d of other content, %d to compute", len(keys), len(unique), len(missing))
    if not missing:
        return keys
    _check_space(store.folder, model.config.feature_shapes, dtype, len(missing))
    device = torch.device(device)
    model = model.to(device).eval()

    def read(path: str) -> dict[str, Tensor]:
        pixels = processor.encode_video(path)
        return {name: t.pin_memory() for name, t in pixels.items()} if device.type == "cuda" else pixels

    def write(path: str, features: dict[str, Tensor]) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in features.values()):
            raise InputError(
                f"{path}: its features are not finite as {settings['dtype']}; set features.dtype to bfloat16 or float32"
            )
        store.write(keys[path], features)

    workers = workers or os.cpu_count() or 1
    readers, writers = ThreadPoolExecutor(workers), ThreadPoolExecutor(WRITERS)
    bar = Progress(total=len(missing), desc="features", unit="clip", disable=not progress)
    with bar, writers:  # what is encoded is written, whatever comes
        try:
            pixels = _ahead(readers, read, missing, batch_size + workers)
            done, batch, writing = 0, [], deque()
            while done < len(missing):
                batch += islice(pixels, max(0, batch_size - len(batch)))
                try:
                    features = encode(model, batch[:batch_size], device, dtype)
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
        finally:
            readers.shutdown(cancel_futures=True)
    return keys


def _ahead(pool: ThreadPoolExecutor, function, items: list, depth: int) -> Iterator:
    """Yield ``function(item)`` in order, computed up to ``depth`` items ahead."""
    upcoming = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(upcoming, depth))
    while waiting:
        result = waiting.popleft().result()
        waiting += [pool.submit(function, item) for item in islice(upcoming, 1)]
        yield result


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
