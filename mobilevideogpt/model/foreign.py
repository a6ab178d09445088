"""Configuration files that others wrote, checked before memory is taken for what they describe. Standard library only.

The limits are far above any published model of this kind. The tensors decide the sizes in the end; these checks keep a
damaged or hostile file from taking hours or all memory first.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from mobilevideogpt.errors import InputError, shown

REMEDY = "fetch the checkpoint again, or correct this file"
# Largest value of each whole number in a base's config.json.
LIMITS = {
    **{"vocab_size": 2**22, "hidden_size": 2**16, "intermediate_size": 2**19, "num_hidden_layers": 512},
    **{"num_attention_heads": 2**10, "num_key_value_heads": 2**10, "max_position_embeddings": 2**24},
    **{"video_hidden_size": 2**14, "video_num_layers": 512, "video_state_size": 2**10, "video_conv_kernel": 64},
    **{"video_expand": 16, "video_num_frames": 2**10, "num_frames": 2**11, "image_size": 2**12, "patch_size": 2**10},
    **{"image_hidden_size": 2**14, "image_intermediate_size": 2**16, "image_num_layers": 512, "image_num_heads": 2**9},
}
OPTIONAL = {"num_key_value_heads"}  # null counts as absent
MAX_RANK = 2**12
# What an adapter may say. All else has to be as PEFT sets it by default, since it changes the computation.
ADAPTER_SHAPE = {
    **{"peft_type": str, "r": int, "lora_alpha": float, "lora_dropout": float},
    **{"target_modules": (str, [str]), "modules_to_save": ([str], None)},
}
UNIMPORTANT = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"}
# How PEFT fills the tensors of a new adapter; those of the file replace them.
INITIAL = {"init_lora_weights", "loftq_config", "eva_config", "corda_config"}


def check_base_config(values: Mapping[str, Any], where: object) -> None:
    """Check the content of a base's config.json.

    Args:
        values: The content.
        where: The file, for the message.

    Raises:
        InputError: If a size is not a plausible whole number, or the file asks for code or a quantization.
    """
    for name, most in LIMITS.items():
        value = values.get(name)
        if name not in values or (value is None and name in OPTIONAL):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise InputError(f'{where}: "{name}" is {shown(value)}, not a whole number from 1 to {most}; {REMEDY}')
    for name in ("_attn_implementation", "attn_implementation"):
        value = values.get(name)
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"\w+", value)):
            raise InputError(
                f'{where}: "{name}" is {shown(value)}, which would load code from elsewhere; delete this entry'
            )
    if values.get("quantization_config") is not None:
        raise InputError(f'{where}: "quantization_config" is set; give a base whose weights are not quantized')


def check_lora_config(values: Mapping[str, Any], default: Mapping[str, Any], where: object) -> None:
    """Check the content of an adapter_config.json of the shape `ADAPTER_SHAPE`.

    Args:
        values: The content.
        default: What PEFT writes for LoRA by default.
        where: The file, for the message.

    Raises:
        InputError: If it is not plain LoRA or a value is not plausible.
    """
    if values["peft_type"] != "LORA":
        raise InputError(f'{where}: "peft_type" is {shown(values["peft_type"])}; give an adapter of the type LORA')
    if not 0 < values["r"] <= MAX_RANK:
        raise InputError(f'{where}: "r" is {shown(values["r"])}, not a rank from 1 to {MAX_RANK}; give another adapter')
    if not math.isfinite(values["lora_alpha"]) or not 0 <= values["lora_dropout"] < 1:
        raise InputError(f'{where}: "lora_alpha" or "lora_dropout" is not plausible; give another adapter')
    known = {*ADAPTER_SHAPE, *UNIMPORTANT, *INITIAL, "use_rslora"}
    for name, value in values.items():
        if name not in known and value and value != default.get(name):
            raise InputError(f'{where}: "{name}" is {shown(value)}; give an adapter of plain LoRA, without this option')
