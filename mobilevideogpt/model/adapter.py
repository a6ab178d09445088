"""What fine-tuning trains: LoRA (arXiv:2106.09685) on the language model's linear layers, and both projectors whole."""

import logging
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
from mobilevideogpt.model.checkpoint import load_pickled
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

log = logging.getLogger(__name__)

# Matched against whole names, so that layers of the encoders with the same last names are left alone.
LORA_TARGETS = r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
ORIGINAL_PROJECTORS = "non_lora_trainables.bin"  # where the original code's LoRA training leaves them
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

    The folder is one of this package's trainings or of the original code's, whose projectors lie in
    ``non_lora_trainables.bin``. If it holds no projectors, the base's stay, and the log says so.

    Raises:
        InputError: If the folder holds no such adapter, or it was made for a model of another shape.
    """
    if not Path(folder, "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds no adapter_config.json; give the folder that training wrote")
    config = PeftConfig.from_pretrained(folder)
    if others := set(config.modules_to_save or ()) - set(MODULES_TO_SAVE):
        raise InputError(f"{folder}: the adapter replaces {', '.join(sorted(others))}; only projectors are known here")
    tensors = load_peft_weights(str(folder), device="cpu")
    if not config.modules_to_save:
        config.modules_to_save = MODULES_TO_SAVE
        tensors |= _original_projectors(Path(folder, ORIGINAL_PROJECTORS))
        if not isinstance(config.target_modules, str):  # bare names, which CLIP's layers share
            config.target_modules = rf"model\.layers\.\d+\.\w+\.({'|'.join(sorted(config.target_modules))})"
    config.inference_mode = False  # else PEFT would round the projectors to the base's precision
    wrapped = _wrap(model, config)
    own = get_peft_model_state_dict(wrapped)
    if not any("projector" in key for key in tensors):
        log.warning("%s: the adapter comes without projectors; those of the base are used", folder)
        tensors |= {k: t for k, t in own.items() if "projector" in k}
    expected = {k: t.shape for k, t in own.items()}
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


def _original_projectors(path: Path) -> dict[str, torch.Tensor]:
    """The projectors under the names that PEFT uses, which the original's are already; empty if there are none."""
    tensors = load_pickled(path) if path.is_file() else {}
    if strange := sorted(k for k in tensors if "mm_projector." not in k):
        raise InputError(f"{path}: holds {strange[0]}, which is no part of a projector")
    return tensors


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
