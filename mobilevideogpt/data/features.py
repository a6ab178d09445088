"""What the frozen encoders say of each clip: computed once, kept under the digest of all that it depends on."""

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import json_digest, replacing

log = logging.getLogger(__name__)
NAMES = ("video_features", "context_features")
# Plain `snakemake features` looks at the index only, not at each clip's file.
RECOMPUTE = "`snakemake features --forcerun features`"


def feature_key(clip_digest: str, encoder_digest: str, settings: Mapping) -> str:
    """Digest of everything that shapes a clip's features.

    Args:
        clip_digest: SHA-256 of the clip's file.
        encoder_digest: Digest of the encoders' weights.
        settings: Frames, number format, code of the extractor: whatever else changes the result.
    """
    return json_digest({"clip": clip_digest, "encoder": encoder_digest, "settings": dict(settings)})


class FeatureStore:
    """Features in ``<folder>/<first two digits>/<key>.safetensors``, each file written whole and checked when read."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the features of ``key`` stand, there or not."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str | None) -> bool:
        return key is not None and self.path(key).is_file()

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep ``tensors`` (on the CPU, any number format) under ``key``."""
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(self.path(key)) as temporary:
            save_file(tensors, temporary, metadata={"sha256": _digest(tensors)})

    def read(self, key: str) -> dict[str, Tensor]:
        """Return ``video_features`` ``(chunks, tokens, width)`` and ``context_features`` ``(frames, tokens, width)``.

        Raises:
            InputError: If the file is missing or damaged.
        """
        path = self.path(key)
        remedy = f"{RECOMPUTE} computes it anew"
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                expected = (file.metadata() or {}).get("sha256")
        except FileNotFoundError:
            raise InputError(f"{path}: these features are missing; run {RECOMPUTE}") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: damaged ({error}); {remedy}") from None
        if _digest(tensors) != expected:
            raise InputError(f"{path}: its content is not what was written; {remedy}")
        return tensors

    def holds(self, key: str) -> bool:
        """Whether ``key`` is there and intact; what is damaged is logged and deleted."""
        if key not in self:
            return False
        try:
            self.read(key)
        except InputError as error:
            log.warning("%s (done)", error)
            self.path(key).unlink()
            return False
        return True


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
    progress: bool = True,
) -> dict[str, str]:
    """Compute the features that ``store`` lacks; threads decode the next clips while the encoders run.

    Args:
        model: Has ``encode_video(pixel_values_videos=, pixel_values_context=)``, for ``(B, 16, 3, 224, 224)`` each.
        processor: Has ``encode_video(path)``, which returns those two for one clip.
        clips: Path to SHA-256 of each clip. Clips of equal content are encoded once.
        store: Where features are kept.
        encoder_digest: Digest of the encoders' weights.
        settings: What else belongs to the key; ``dtype`` (float16, bfloat16, float32) is what the features are kept in.
        batch_size: Clips encoded at a time.
        device: Where the encoders run; the model is moved there.
        progress: Show a bar if standard error is a terminal.

    Returns:
        Path to key of each clip.

    Raises:
        InputError: If a clip cannot be decoded, the features do not fit the disk, or overflow ``dtype``.
    """
    dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[settings["dtype"]]
    keys = {path: feature_key(digest, encoder_digest, settings) for path, digest in clips.items()}
    unique = {key: path for path, key in sorted(keys.items(), reverse=True)}  # of equal clips the first
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        held = pool.map(store.holds, unique)
        missing = sorted(path for (_, path), there in zip(unique.items(), held, strict=True) if not there)
        log.info("features: %d clips, %d of other content, %d to compute", len(keys), len(unique), len(missing))
        if not missing:
            return keys
        model = model.to(device).eval()
        pixels = _ahead(pool, processor.encode_video, missing, 2 * batch_size)
        bar = tqdm(total=len(missing), desc="features", unit="clip", disable=None if progress else True)
        try:
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                features = encode(model, list(islice(pixels, len(batch))), device, dtype)
                if start == 0:
                    _check_space(store.folder, features, len(batch), len(missing))
                for i, path in enumerate(batch):
                    tensors = {name: features[name][i] for name in NAMES}
                    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
                        raise InputError(
                            f"{path}: its features are not finite as {settings['dtype']}; "
                            "set features.dtype to bfloat16 or float32"
                        )
                    store.write(keys[path], tensors)
                bar.update(len(batch))
        finally:
            bar.close()
            pool.shutdown(wait=False, cancel_futures=True)
    return keys


def _ahead(pool: ThreadPoolExecutor, function, items: list, depth: int) -> Iterator:
    """Yield ``function(item)`` in order, computed up to ``depth`` items ahead."""
    upcoming = iter(items)
    waiting: list[Future] = [pool.submit(function, item) for item in islice(upcoming, depth)]
    while waiting:
        result = waiting.pop(0).result()
        waiting += [pool.submit(function, item) for item in islice(upcoming, 1)]
        yield result


@torch.inference_mode()
def encode(model, pixels: list[Mapping[str, Tensor]], device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Features, on the CPU in ``dtype``, of clips from a processor's ``encode_video``; ``model`` is on ``device``."""
    names = ("pixel_values_videos", "pixel_values_context")
    inputs = {name: torch.stack([clip[name] for clip in pixels]).to(device) for name in names}  # (B, 16, 3, 224, 224)
    return {name: tensor.to(dtype).cpu() for name, tensor in zip(NAMES, model.encode_video(**inputs), strict=True)}


def _check_space(folder: Path, features: Mapping[str, Tensor], batch: int, clips: int) -> None:
    """Refuse to go on if all features, at the size of the first batch's, do not fit; nothing is written yet."""
    a_clip = sum(math.ceil(tensor.nbytes / batch) for tensor in features.values()) + 4096  # a header and a block
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    log.info("features take %.2f GB, %.2f GB are free", a_clip * clips / 1e9, free / 1e9)
    if a_clip * clips > free:
        raise InputError(
            f"{folder}: the features of {clips} clips take {a_clip * clips / 1e9:.2f} GB, but {free / 1e9:.2f} GB are "
            "free; free some, or make the folder a link to a larger disk"
        )
