"""The geometry of both encoders, as the shapes of their tensors show it. Without PyTorch."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevideogpt.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

VIDEO_PREFIX = "model.vision_tower."  # followed by the key in VideoMamba's own file
IMAGE_PREFIX = "model.image_vision_tower.vision_tower."  # followed by the key in CLIP's own folder
HEAD_SIZE = 64  # of every published CLIP


def encoder_geometry(tensors: dict[str, Tensor], folder: Path) -> dict[str, int]:
    """Return the configuration fields that the tensors of both encoders show.

    Several tensors show a size. The most common value wins, so that a later check of all shapes names the one tensor
    that differs and not the others.

    Raises:
        InputError: If no tensor shows a size.
    """

    def size(axis: int, *patterns: tuple[str, int]) -> int:
        found = [
            t.shape[axis] for p, dims in patterns for k, t in tensors.items() if t.dim() == dims and re.fullmatch(p, k)
        ]
        if not found:
            keys = " or ".join(p.replace("\\", "") for p, _ in patterns)
            raise InputError(
                f"{folder}: {keys} is missing or misshapen, so the geometry of the encoder is unknown; fetch it again"
            )
        return Counter(found).most_common(1)[0][0]

    def depth(prefix: str) -> int:
        numbers = [re.match(rf"{prefix}(\d+)\.", k) for k in tensors]
        return 1 + max((int(n[1]) for n in numbers if n), default=-1)

    video, image = re.escape(f"{VIDEO_PREFIX}vision_encoder."), re.escape(f"{IMAGE_PREFIX}vision_model.")
    mixer, layer = rf"{video}layers\.\d+\.mixer\.", rf"{image}encoder\.layers\.\d+\."
    width = size(-1, (rf"{video}(cls_token|pos_embed|temporal_pos_embedding)", 3), (rf"{video}.*\bnorm\.weight", 1))
    frames = size(1, (rf"{video}temporal_pos_embedding", 3))
    image_width = size(0, (rf"{layer}layer_norm\d\.(weight|bias)", 1), (rf"{image}embeddings\.class_embedding", 1))
    patch = size(-1, (rf"{image}embeddings\.patch_embedding\.weight", 4), (rf"{video}patch_embed\.proj\.weight", 5))
    positions = size(-2, (rf"{image}embeddings\.position_embedding\.weight", 2), (rf"{video}pos_embed", 3))
    return {
        "video_hidden_size": width,
        "video_num_layers": depth(rf"{video}layers\."),
        "video_state_size": size(1, (rf"{mixer}A(_b)?_log", 2)),
        "video_conv_kernel": size(-1, (rf"{mixer}conv1d(_b)?\.weight", 3)),
        "video_expand": size(0, (rf"{mixer}D(_b)?", 1)) // width,
        "video_num_frames": frames,
        "num_frames": 2 * frames,
        "image_hidden_size": image_width,
        "image_intermediate_size": size(0, (rf"{layer}mlp\.fc1\.weight", 2), (rf"{layer}mlp\.fc1\.bias", 1)),
        "image_num_layers": depth(rf"{image}encoder\.layers\."),
        "image_num_heads": max(1, image_width // HEAD_SIZE),
        "image_size": patch * math.isqrt(positions - 1),
        "patch_size": patch,
    }
