"""Cached features of the frozen encoders, stored under a key that digests all that they depend on."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mobilevideogpt.data.encoding import DTYPES, SCORES, encode
from mobilevideogpt.data.feature_files import CLIPS_FILE, REMEDY, feature_path, incomplete_shards, read_clip_list
from mobilevideogpt.errors import InputError
from mobilevideogpt.files import file_digest, replacing
from mobilevideogpt.segments import file_of


class FeatureStore:
    """Features in ``<folder>/<first two digits>/<key>.safetensors``, each file written whole and verified when read.

    `read` invalidates missing or damaged features: it deletes them, and the lists ``<folder>/*.json`` with them, so
    that the next run of the workflow makes the lists and the missing features again. Of the shards in
    ``<folder>/shards/``, if there are any, only those that lack a feature are made again.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Return the file of ``key``, whether it exists or not."""
        return feature_path(self.folder, key)

    def __contains__(self, key: str | None) -> bool:
        return key in self.stored([key])

    def stored(self, keys: Iterable[str | None]) -> set[str]:
        """Return those keys that have features.

        Folders are listed: to look at each of 300,000 files would take minutes on a shared file system.
        """
        wanted = {key for key in keys if key}
        names: set[str] = set()
        for folder in {self.path(key).parent for key in wanted}:
            with suppress(FileNotFoundError):
                names.update(os.listdir(folder))
        return {key for key in wanted if self.path(key).name in names}

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Write ``tensors`` (on the CPU, of any number format) under ``key``.

        Raises:
            InputError: If the file cannot be written.
        """
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(self.path(key)) as temporary:
            try:
                save_file(tensors, temporary, metadata={"key": key, "sha256": _digest(tensors)})
            except SafetensorError as error:
                raise InputError(
                    f"{self.path(key)}: cannot be written ({error}); free some space, and run the same command again"
                ) from None

    def read(self, key: str) -> dict[str, Tensor]:
        """Return ``video_features`` ``(chunks, tokens, width)`` and ``context_features`` ``(frames, tokens, width)``.

        Raises:
            InputError: If the file is missing or damaged, or contains the features of another clip.
        """
        return {name: tensor for name, tensor in self._read(key).items() if name != SCORES}

    def read_scores(self, key: str) -> Tensor:
        """Return the scores ``(frames,)`` by which frames were chosen for the video encoder; raises as `read` does."""
        return self._read(key)[SCORES]

    def _read(self, key: str) -> dict[str, Tensor]:
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                metadata = file.metadata() or {}
        except FileNotFoundError:
            self.invalidate()
            raise missing_error(f"{path}: these features are missing") from None
        except (SafetensorError, OSError) as error:
            self.invalidate(key)
            raise missing_error(f"{path}: damaged ({error})") from None
        if _digest(tensors) != metadata.get("sha256"):
            self.invalidate(key)
            raise missing_error(f"{path}: damaged (its digest differs from the one that was written)")
        if metadata.get("key") != key:
            self.invalidate(key)
            raise missing_error(f"{path}: contains the features of another clip")
        return tensors

    def invalidate(self, key: str | None = None) -> None:
        """Delete the lists of the store and, if given, the features of ``key``."""
        for path in [*self.folder.glob("*.json"), *([self.path(key)] if key else [])]:
            path.unlink(missing_ok=True)
        for path in incomplete_shards(self.folder):
            path.unlink(missing_ok=True)


class UncachedFeatures(FeatureStore):
    """A store for runs without a cache: `read` decodes the clip, and encodes it if encoders are given.

    Args:
        folder: Contains ``clips.json``, the file of each key, see `feature_files.write_clip_list`.
        processor: Has ``encode_video(path)``.
        encoders: Has ``encode_video``; if None, `read` returns pixels, for `encode_batch` to encode a batch at a time.
        dtype: Number format that cached features would have; the result is rounded to it.
    """

    def __init__(self, folder: str | Path, processor, encoders=None, dtype: str = "float32"):
        super().__init__(folder)
        self.processor, self.encoders, self.dtype = processor, encoders, DTYPES[dtype]
        try:
            self.files, self.precision = read_clip_list(folder)
        except InputError:
            self.invalidate()
            raise
        if encoders is not None:
            encoders.set_encoder_precision(self.precision)
        self._scores: dict[str, Tensor] = {}  # of the clips that were read

    def stored(self, keys: Iterable[str | None]) -> set[str]:
        """Return those keys whose clip is listed."""
        return {key for key in keys if key in self.files}

    def read(self, key: str) -> dict[str, Tensor]:
        """Return features as `FeatureStore.read` does, or the pixels if there are no encoders.

        Raises:
            InputError: If the store does not list the key, or the clip is not the one that was checked.
        """
        if key not in self.files:
            self.invalidate()
            raise missing_error(f"{self.folder / CLIPS_FILE}: does not list {key}")
        path, digest = self.files[key]
        pixels = self.processor.encode_video(path)
        if file_digest(file_of(path)) != digest:
            raise InputError(f"{path}: the file changed after it was checked; run the same command again")
        if self.encoders is None:
            return pixels
        batch = {name: tensor[None].to(self.encoders.device) for name, tensor in pixels.items()}
        encoded = {name: tensor[0].cpu() for name, tensor in encode(self.encoders, batch, self.dtype).items()}
        self._scores[key] = encoded.pop(SCORES)
        return encoded

    def read_scores(self, key: str) -> Tensor:
        """Return the scores of a clip's frames; a clip that was read is not decoded again."""
        if key not in self._scores:
            self.read(key)
        return self._scores[key]


def missing_error(what: str) -> InputError:
    """Return the error to raise after `FeatureStore.invalidate`; the next run computes what is missing."""
    return InputError(f"{what}; {REMEDY}")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)  # the bytes; NumPy has no bfloat16
    return digest.hexdigest()
