"""What fine-tuning trains: both projectors, and the language model by LoRA (arXiv:2106.09685) or whole.

LoRA is kept in PEFT's layout, projectors included. A language model that was trained whole is kept with the projectors
as a checkpoint without encoders, which are the base's.
"""

import importlib
import logging
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json
from mobilevideogpt.model.checkpoint_files import load_pickled
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

log = logging.getLogger(__name__)

# Matched against whole names, so that layers of the encoders with the same last names are left alone.
LORA_TARGETS = r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
WHOLE_FILES = ("config.json", "model.safetensors")
ORIGINAL_ADAPTER = "adapter_model.bin"  # of the original code, with the PEFT of its time
ORIGINAL_PROJECTORS = "non_lora_trainables.bin"  # where the original code's LoRA training leaves them
ANEW = "copy it anew, or train again with `snakemake --forcerun finetune`"
NOT_QUANTIZED = ["lm_head", *(f"model.{name}" for name in ("vision_tower", "image_vision_tower"))]
PROJECTORS = ["mm_projector", "image_mm_projector"]
# PEFT compares the ends of names, and one projector's name ends with the other's.
MODULES_TO_SAVE = [f"model.{name}" for name in PROJECTORS]


def nf4(compute_dtype: torch.dtype, device: torch.device | str) -> dict:
    """Options of ``from_pretrained`` that load the decoder's linear layers in NF4, for LoRA (QLoRA, arXiv:2305.14314).

    Weights of 4 bits, their scales quantized in turn; products in ``compute_dtype``. All else stays as it is.

    Raises:
        InputError: If bitsandbytes is not installed.
    """
    try:
        importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise InputError(
            f"finetune.quantization: nf4 takes bitsandbytes, which cannot be imported ({error}): pip install '.[nf4]', "
            "or set it to none"
        ) from None
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=NOT_QUANTIZED + MODULES_TO_SAVE,
    )
    return {"quantization_config": config, "device_map": {"": device}}


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


def trained_tensors(model: PeftModel | MobileVideoGPTForConditionalGeneration) -> dict[str, torch.Tensor]:
    """What of ``model`` is trained, and saved, by its name in the file; of one without an adapter all but encoders."""
    if isinstance(model, PeftModel):
        return get_peft_model_state_dict(model)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {k: t for k, t in model.state_dict().items() if "vision_tower." not in k and k not in tied}


def load_finetuned(
    model: MobileVideoGPTForConditionalGeneration, folder: str | Path
) -> PeftModel | MobileVideoGPTForConditionalGeneration:
    """Put what a fine-tuning wrote to ``folder`` into ``model``, the base, in place: an adapter, or whole weights.

    Whole weights are rounded to the precision that ``model`` has, as autocast did for each product in training.

    Raises:
        InputError: If the folder holds neither, it is damaged, or it was made for a model of another shape.
    """
    weights = Path(folder, WHOLE_FILES[-1])
    if Path(folder, ADAPTER_FILES[0]).is_file() or not weights.is_file():
        return load_adapter(model, folder)
    tensors = _read(weights)
    _check_shapes(tensors, trained_tensors(model), folder)
    model.load_state_dict(tensors, strict=False)  # the encoders and a tied head are there
    return model.requires_grad_(False).eval()


def load_adapter(
    model: MobileVideoGPTForConditionalGeneration, folder: str | Path, is_trainable: bool = False
) -> PeftModel:
    """Wrap ``model`` with the adapter and the projectors that ``folder`` holds; frozen unless ``is_trainable``.

    The folder is one of this package's trainings or of the original code's, whose projectors lie in
    ``non_lora_trainables.bin``. If it holds no projectors, the base's stay, and the log says so.

    Raises:
        InputError: If the folder holds no such adapter, it is damaged, or it was made for a model of another shape.
    """
    if not Path(folder, "adapter_config.json").is_file():
        raise InputError(
            f"{folder}: holds no adapter_config.json; give the folder that training wrote, or, if it was lost, {ANEW}"
        )
    read_json(Path(folder, "adapter_config.json"), ANEW)  # says what is wrong with a file that is damaged
    config = PeftConfig.from_pretrained(folder)
    if others := set(config.modules_to_save or ()) - set(MODULES_TO_SAVE):
        raise InputError(f"{folder}: the adapter replaces {', '.join(sorted(others))}; only projectors are known here")
    tensors = _adapter(Path(folder))
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
    _check_shapes(tensors, own, folder, f"; it was trained on {config.base_model_name_or_path}")
    set_peft_model_state_dict(wrapped, tensors)
    if not is_trainable:
        wrapped.requires_grad_(False).eval()
    return wrapped


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    if (path := folder / ADAPTER_FILES[-1]).is_file():
        return _read(path)
    if (path := folder / ORIGINAL_ADAPTER).is_file():
        return load_pickled(path)
    raise InputError(f"{folder}: holds no {ADAPTER_FILES[-1]}; {ANEW}")


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); {ANEW}") from None


def _check_shapes(tensors: dict, own: dict, folder: str | Path, origin: str = "") -> None:
    expected = {k: t.shape for k, t in own.items()}
    if wrong := sorted(
        k for k in expected.keys() | tensors.keys() if k not in tensors or tensors[k].shape != expected.get(k)
    ):
        raise InputError(
            f"{folder}: {len(wrong)} of its tensors do not fit this base checkpoint, the first is {wrong[0]}{origin}"
        )


def _original_projectors(path: Path) -> dict[str, torch.Tensor]:
    """The projectors under the names that PEFT uses, which the original's are already; empty if there are none."""
    tensors = load_pickled(path) if path.is_file() else {}
    if strange := sorted(k for k in tensors if "mm_projector." not in k):
        raise InputError(f"{path}: holds {strange[0]}, which is no part of a projector")
    return tensors


def merge_adapter(model: PeftModel | MobileVideoGPTForConditionalGeneration) -> MobileVideoGPTForConditionalGeneration:
    """Add the adapter, if there is one, to the base, put the projectors in place, and return the plain float32 model.

    Adding in float32 rounds nothing; whoever saves in half precision casts once, afterwards.
    """
    merged = model.float()
    if isinstance(model, PeftModel):
        merged = model.merge_and_unload()
    merged.config.dtype = torch.float32
    return merged


def _wrap(model: MobileVideoGPTForConditionalGeneration, config: LoraConfig) -> PeftModel:
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped
