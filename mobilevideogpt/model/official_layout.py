"""``config.json`` as the original code (github.com/Amshaker/Mobile-VideoGPT, on transformers 4) reads and writes it."""

import json
from typing import Any, cast

import torch

from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.model_paths import VIDEO_FILE

# Fields that the original code writes beside those of Qwen2.
OFFICIAL_FIELDS = {
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "image_mm_projector_type": "etp",
    "image_mm_vision_tower": "openai/clip-vit-base-patch16",
    "mm_projector_lr": 2e-5,
    "mm_projector_type": "etp",
    "mm_use_box_start_end": False,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": f"OpenGVLab/VideoMamba/{VIDEO_FILE}",
    "tune_mm_mlp_adapter": False,
    "use_mm_proj": True,
}


def official_config(config: MobileVideoGPTConfig) -> dict:
    """Return the content of ``config.json`` for the original code, which ignores the fields that only we have."""
    values = OFFICIAL_FIELDS | json.loads(config.to_json_string())
    values |= {
        "architectures": ["MobileVideoGPTQwenForCausalLM"],
        "image_mm_hidden_size": config.image_hidden_size,
        # As released: the width of the image encoder overwrites that of the video encoder.
        "mm_hidden_size": config.image_hidden_size,
        "rope_scaling": None,
        "rope_theta": cast(dict[str, Any], config.rope_parameters)["rope_theta"],  # transformers fills it in
        "sliding_window": config.sliding_window or config.max_position_embeddings,
        "torch_dtype": str(config.dtype or torch.float32).removeprefix("torch."),
        "transformers_version": "4.41.0",
    }
    for key in ("dtype", "layer_types", "rope_parameters"):
        values.pop(key, None)
    return values
