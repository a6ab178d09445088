"""What fine-tuning trains: LoRA (arXiv:2106.09685) on the language model's linear layers, and both projectors whole."""

from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)

from mobilevideogpt.errors import InputError
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

# Matched against whole names, so that layers of the encoders with the same last names are left alone.
LORA_TARGETS = r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
PROJECTORS = ["mm_projector", "image_mm_projector"]
# PEFT compares the ends of names, and one projector's name ends with the other's.
MODULES_TO_SAVE = [f"model.{name}" for name in PROJECTORS]


def add_lora(model: MobileVideoGPTForConditionalGeneration, r: int, lora_alpha: int, lora_dropout: float) -> PeftModel:
    """Wrap ``model`` for training; what is trained is float32 whatever the base is, everything else is frozen."""
    config = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=LORA_TARGETS,
        modules_to_save=MODULES_TO_SAVE,
        task_type="CAUSAL_LM",
    )
    return _wrap(model, config)


def load_adapter(
    model: MobileVideoGPTForConditionalGeneration, folder: str | Path, is_trainable: bool = False
) -> PeftModel:
    """Wrap ``model`` with the adapter and the projectors that ``folder`` holds; frozen unless ``is_trainable``.

    Raises:
        InputError: If the folder holds no such adapter, or it was made for a model of another shape.
    """
    if not Path(folder, "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds no adapter_config.json; give the folder that training wrote")
    config = PeftConfig.from_pretrained(folder)
    if set(config.modules_to_save or ()) != set(MODULES_TO_SAVE):
        raise InputError(f"{folder}: the adapter comes without the projectors; give the folder that training wrote")
    config.inference_mode = False  # else PEFT would round the projectors to the base's precision
    wrapped = _wrap(model, config)
    tensors = load_peft_weights(str(folder), device="cpu")
    expected = {k: t.shape for k, t in get_peft_model_state_dict(wrapped).items()}
    if wrong := sorted(
        k for k in expected.keys() | tensors.keys() if k not in tensors or tensors[k].shape != expected.get(k)
    ):
        raise InputError(
            f"{folder}: {len(wrong)} tensors of the adapter do not fit this base checkpoint, the first is {wrong[0]}; "
            f"it was trained on {config.base_model_name_or_path}"
        )
    set_peft_model_state_dict(wrapped, tensors)
    if not is_trainable:
        wrapped.requires_grad_(False).eval()
    return wrapped


def merge_adapter(model: PeftModel) -> MobileVideoGPTForConditionalGeneration:
    """Add the adapter to the base, put the trained projectors in place, and return the plain model, in float32.

    Adding in float32 rounds nothing; whoever saves in half precision casts once, afterwards.
    """
    merged = model.float().merge_and_unload()
    merged.config.dtype = torch.float32
    return merged


def _wrap(model: MobileVideoGPTForConditionalGeneration, config: LoraConfig) -> PeftModel:
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped
