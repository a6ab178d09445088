"""Checkpoints of the released layout: one configuration and one set of tensors from up to three sources."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.model.checkpoint_files import (
    read_image_encoder,
    read_tensors,
    read_video_encoder,
    read_video_token,
    resolve_folder,
)
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.foreign import REMEDY, check_base_config
from mobilevideogpt.model.geometry import IMAGE_PREFIX, VIDEO_PREFIX, encoder_geometry
from mobilevideogpt.model.model_paths import VIDEO_FILE

MAX_LISTED = 100  # tensors that the message about wrong ones lists
# The alignment head has no effect. Where it is absent it becomes zeros.
BUILD_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
OPTIONAL = re.compile(r"model\.vision_tower\.vision_encoder\.clip_decoder\.")


class Checkpoint(NamedTuple):
    """The folder of the base, the complete configuration, and exactly the tensors that the model has."""

    folder: Path
    config: MobileVideoGPTConfig
    tensors: dict[str, Tensor]


def read_checkpoint(
    model_class: type[nn.Module],
    folder_or_repo: str | Path,
    video_encoder: str | Path | None,
    image_encoder: str | Path | None,
    config: MobileVideoGPTConfig | dict,
    hub: dict,
) -> Checkpoint:
    """Read a base checkpoint, and an encoder from its own source where one is given.

    Args:
        model_class: The class whose state dict the tensors have to match.
        folder_or_repo: Folder or hub id of the base.
        video_encoder: See `read_video_encoder`; replaces the one in the base.
        image_encoder: See `read_image_encoder`; replaces the one in the base.
        config: Replaces the configuration of the folder; a dictionary contains only the fields that differ from it.
        hub: Options of a download; ``revision`` applies to the base alone.

    Raises:
        InputError: If a file or a tensor is missing, unexpected or of the wrong shape.
    """
    folder = resolve_folder(folder_or_repo, hub)
    tensors, clip_fields = read_tensors(folder), {}
    hub = {k: v for k, v in hub.items() if k != "revision"}  # the encoders have repositories of their own
    if video_encoder is not None:
        _replace(tensors, VIDEO_PREFIX, read_video_encoder(video_encoder, hub))
    if image_encoder is not None:
        own, clip_fields = read_image_encoder(image_encoder, hub)
        _replace(tensors, IMAGE_PREFIX, own)
    _require_encoders(tensors, folder)
    found = encoder_geometry(tensors, folder) | read_video_token(folder) | clip_fields
    replaced = [p for p, source in (("video_", video_encoder), ("image_", image_encoder)) if source is not None]
    config = _complete_config(folder, config, found, tuple(replaced))
    _fit(tensors, model_class, config, folder)
    return Checkpoint(folder, config, tensors)


def _replace(tensors: dict[str, Tensor], prefix: str, own: dict[str, Tensor]) -> None:
    for key in [k for k in tensors if k.startswith(prefix)]:
        del tensors[key]
    tensors |= {prefix + k: t for k, t in own.items()}


def _require_encoders(tensors: dict[str, Tensor], folder: Path) -> None:
    for prefix, argument, example in (
        (VIDEO_PREFIX, "video_encoder", f"OpenGVLab/VideoMamba's {VIDEO_FILE}"),
        (IMAGE_PREFIX, "image_encoder", "openai/clip-vit-base-patch16"),
    ):
        if not any(k.startswith(prefix) for k in tensors):
            raise InputError(
                f"{folder}: the checkpoint contains no {argument}; give `{argument}`, for example {example}"
            )


def _complete_config(
    folder: Path, config: MobileVideoGPTConfig | dict, found: dict, replaced: tuple[str, ...]
) -> MobileVideoGPTConfig:
    """Fill the configuration with ``found``, what the tensors and the tokenizer show.

    ``config.json`` wins, except for fields that start with one of ``replaced``: an encoder from its own source brings
    its geometry.
    """
    path = folder / "config.json"
    stored = read_json(path, "it belongs to the checkpoint", shape=dict)
    check_base_config(stored, path)
    from_source = {k for k in found if k.startswith(replaced) and k != "video_token_id"}
    stored = {k: v for k, v in stored.items() if k not in from_source}
    if isinstance(config, dict):
        with explained(path):
            return MobileVideoGPTConfig.from_dict(found | stored | config)
    config, default = copy.deepcopy(config), MobileVideoGPTConfig()  # AutoConfig, for example, filled in the defaults
    for key in found.keys() - stored.keys():
        if key in from_source or getattr(config, key) == getattr(default, key):
            setattr(config, key, found[key])
    return config


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what transformers raises about impossible values of the configuration at ``path`` into one InputError."""
    try:
        yield
    except InputError:
        raise
    except (StrictDataclassError, *BUILD_ERRORS) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: describes a model that cannot be built ({text[:300]}); {REMEDY}") from error


def _fit(tensors: dict[str, Tensor], model_class: type[nn.Module], config: MobileVideoGPTConfig, folder: Path) -> None:
    """Drop a tied head, add the optional tensors, and check that the rest are those of the model.

    Raises:
        InputError: If a tensor is missing, unexpected or of the wrong shape; the message lists them.
    """
    with torch.device("meta"), explained(folder / "config.json"):
        expected = model_class(config).state_dict()
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
        expected.pop("lm_head.weight")
    for key in expected.keys() - tensors.keys():
        if OPTIONAL.match(key):
            tensors[key] = torch.zeros(expected[key].shape)
    problems = [f"missing: {k} {tuple(expected[k].shape)}" for k in sorted(expected.keys() - tensors.keys())]
    problems += [f"unexpected: {k} {tuple(tensors[k].shape)}" for k in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"wrong shape: {k} is {tuple(tensors[k].shape)}, the model has {tuple(expected[k].shape)}"
        for k in sorted(expected.keys() & tensors.keys())
        if tensors[k].shape != expected[k].shape
    ]
    if problems:
        listed = problems[:MAX_LISTED] + [f"and {len(problems) - MAX_LISTED} more"] * (len(problems) > MAX_LISTED)
        text = "\n  ".join(listed)
        raise InputError(
            f"{folder}: {len(problems)} tensors do not fit the model; check that base and encoders belong "
            f"together, or fetch them again:\n  {text}"
        )
