"""The stage of the workflow that computes features: keys of all clips, and the features that are missing.

PyTorch and the encoders load only if features are missing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mobilevideogpt.data.feature_files import feature_key, feature_key_of, missing_features
from mobilevideogpt.data.frame_bounds import FrameBounds, read_frame_bounds
from mobilevideogpt.files import read_json
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.segments import segment_of

CLIPS_A_GPU = 32  # copying the encoders to another GPU takes as long as encoding so many


def compute_features(
    paths: ModelPaths,
    encoders_digest: str,
    clips: Mapping[str, str],
    folder: str | Path,
    *,
    dtype: str,
    precision: str,
    batch_size: int,
    code: str,
    cache: bool,
    threads: int,
    verify: Callable[[], object] | None = None,
) -> dict[str, str]:
    """Compute the features that a store lacks.

    Args:
        paths: Where base and encoders are.
        encoders_digest: As in ``base.json``.
        clips: Path to SHA-256 of each clip's file; the path of a segment says which part of it.
        folder: The folder of the `FeatureStore`.
        dtype: Number format of the features: float16, bfloat16 or float32.
        precision: Of the encoders, see `set_encoder_precision`.
        batch_size: Clips in a batch.
        code: Digest of the code that shapes features.
        cache: Whether features are kept. If not, only the keys are made, so that steps that depend on features run
            again for the same reasons.
        threads: Processes that decode, and threads of PyTorch.
        verify: Called before the first feature is computed; raises if the base is not the one of the digest.

    Returns:
        Path to key of each clip.

    Raises:
        InputError: See `extraction.extract_features`.
    """
    bounds = read_frame_bounds(paths.base)
    keys = feature_keys(paths, encoders_digest, clips, dtype=dtype, precision=precision, code=code)
    if cache and (missing := missing_features(folder, keys)):
        options = {"dtype": dtype, "precision": precision, "batch_size": batch_size, "threads": threads}
        _extract(paths, bounds, clips, missing, folder, verify=verify, **options)
    elif verify:
        verify()
    return keys


def feature_keys(
    paths: ModelPaths, encoders_digest: str, clips: Mapping[str, str], *, dtype: str, precision: str, code: str
) -> dict[str, str]:
    """Return the path of each clip with the key of its features; see `compute_features`."""
    frames = list(read_frame_bounds(paths.base))
    settings = {"dtype": dtype, "precision": precision, "code": code, "frames": frames}
    settings |= {"encoders": _stated_geometry(paths)}
    of_file, keys = feature_key_of(encoders_digest, settings), {}
    for path, digest in clips.items():
        if segment := segment_of(path):
            keys[path] = feature_key(digest, encoders_digest, settings | {"segment": str(segment)})
        else:
            keys[path] = of_file(digest)
    return keys


def _stated_geometry(paths: ModelPaths) -> dict[str, Any]:
    """Return what the configuration files say about the encoders. The rest follows from the weights and the code."""
    base = _read_config(paths.base)
    names = ("num_frames", "patch_size", "select_highest")
    stated = {name: value for name, value in base.items() if name.startswith(("video_", "image_")) or name in names}
    if paths.image_encoder is None:
        return stated
    clip = _read_config(paths.image_encoder)
    return stated | {"clip": clip.get("vision_config", clip)}


def _read_config(folder: str) -> dict[str, Any]:
    return read_json(Path(folder, "config.json"), "fetch the checkpoint again; this file belongs to it", shape=dict)


def _extract(
    paths: ModelPaths,
    bounds: FrameBounds,
    clips: Mapping[str, str],
    missing: Mapping[str, str],
    folder: str | Path,
    *,
    dtype: str,
    precision: str,
    batch_size: int,
    threads: int,
    verify: Callable[[], object] | None,
) -> None:
    from mobilevideogpt.video.decoding_pool import DecodingPool
    from mobilevideogpt.video.frames import clip_frames

    read = partial(clip_frames, **bounds._asdict())
    workers = min(threads, len(missing))
    with DecodingPool(workers) as readers:  # they read the first clips while PyTorch and the encoders load
        frames = readers.map_ahead(read, [(path, clips[path]) for path in missing.values()], 2 * batch_size + workers)

        import torch

        from mobilevideogpt.data.extraction import extract_features
        from mobilevideogpt.data.features import FeatureStore
        from mobilevideogpt.model.modeling import load_encoders

        torch.set_num_threads(threads)
        encoders, store = load_encoders(paths, precision), FeatureStore(folder)
        options = {"dtype": dtype, "batch_size": batch_size, "devices": _devices(len(missing))}
        if verify:
            verify()
        extract_features(encoders, frames, missing, store, **options)


def _devices(clips: int) -> list[str]:
    """Return the visible GPUs that so many clips are worth, or the CPU."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{i}" for i in range(min(gpus, max(1, clips // CLIPS_A_GPU)))] or ["cpu"]
