"""The trained part of a model: both projectors, and the language model by LoRA (arXiv:2106.09685) or as a whole.

LoRA is saved with the projectors in PEFT's layout. A language model that was trained as a whole is saved with the
projectors as a checkpoint without encoders, which the base contains.
"""

import importlib
import logging
from pathlib import Path
from typing import cast

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig

from mobilevideogpt.errors import InputError, shown
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.model.checkpoint_files import load_pickled
from mobilevideogpt.model.foreign import ADAPTER_SHAPE, check_lora_config
from mobilevideogpt.model.model_paths import ADAPTER_FILES, WHOLE_FILES
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration

log = logging.getLogger(__name__)

# Matches whole names, so that it excludes layers of the encoders with the same last names.
LORA_TARGETS = r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
ORIGINAL_ADAPTER = "adapter_model.bin"  # of the original code, with an older PEFT
ORIGINAL_PROJECTORS = "non_lora_trainables.bin"  # that the original code's LoRA training writes
REMEDY = "copy it again, or train again with `snakemake --forcerun finetune`"
ENCODERS = tuple(f"model.{name}" for name in MobileVideoGPTForConditionalGeneration._keep_in_fp32_modules_strict or ())
NOT_QUANTIZED = ["lm_head", *ENCODERS]
PROJECTORS = ["mm_projector", "image_mm_projector"]
# With `model.` in front, because PEFT compares the ends of names, and one projector's name ends with the other's.
MODULES_TO_SAVE = [f"model.{name}" for name in PROJECTORS]


def nf4(compute_dtype: torch.dtype, device: torch.device | str) -> dict:
    """Return options of ``from_pretrained`` that load the decoder's linear layers in NF4 (QLoRA, arXiv:2305.14314).

    Weights have 4 bits and quantized scales; products are computed in ``compute_dtype``. Other modules are unchanged.

    Raises:
        InputError: If bitsandbytes is not installed.
    """
    try:
        importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise InputError(
            f"finetune.quantization: nf4 needs bitsandbytes, which cannot be imported ({error}); run "
            "pip install -e '.[nf4]', or set it to none"
        ) from None
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=NOT_QUANTIZED + MODULES_TO_SAVE,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def add_lora(
    model: MobileVideoGPTForConditionalGeneration, r: int, lora_alpha: float, lora_dropout: float
) -> PeftModel:
    """Wrap ``model`` for training; trained tensors are float32 for a base of any dtype, the others are frozen."""
    config = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,  # pyright: ignore[reportArgumentType]  # PEFT divides it by r
        lora_dropout=lora_dropout,
        target_modules=LORA_TARGETS,
        modules_to_save=MODULES_TO_SAVE,
        task_type="CAUSAL_LM",
    )
    return _wrap(model, config)


def write_plain_lora_config(folder: str | Path) -> None:
    """Leave only the entries of an adapter_config.json that differ from PEFT's defaults, and those always read.

    PEFT 0.11, which the original code pins, refuses an entry that it does not know. Without the file, nothing is done.
    """
    path = Path(folder, ADAPTER_FILES[0])
    if not path.is_file():  # all weights were trained
        return
    values, default = read_json(path, REMEDY, shape=dict), LoraConfig().to_dict()
    kept = {
        name: value
        for name, value in values.items()
        if name in ADAPTER_SHAPE or (name != "peft_version" and value != default.get(name))
    }
    write_json(kept, path)


def trained_tensors(model: PeftModel | MobileVideoGPTForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Return the trained tensors of ``model`` by their names in the saved file; without LoRA, all but the encoders."""
    if isinstance(model, PeftModel):
        return get_peft_model_state_dict(model)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {k: t for k, t in model.state_dict().items() if "vision_tower." not in k and k not in tied}


def load_finetuned(
    model: MobileVideoGPTForConditionalGeneration, folder: str | Path
) -> PeftModel | MobileVideoGPTForConditionalGeneration:
    """Load the result of a fine-tuning, an adapter or all weights, from ``folder`` into ``model``, the base, in place.

    All weights are rounded to the precision of ``model``, as autocast rounded them for each product in training.

    Raises:
        InputError: If the folder contains neither, a file is damaged, or it belongs to a model of another shape.
    """
    weights = Path(folder, WHOLE_FILES[-1])
    if Path(folder, ADAPTER_FILES[0]).is_file() or not weights.is_file():
        return load_adapter(model, folder)
    tensors = _read(weights)
    _check_shapes(tensors, trained_tensors(model), folder)
    model.load_state_dict(tensors, strict=False)  # the encoders and a tied head stay
    return model.requires_grad_(False).eval()


def load_adapter(
    model: MobileVideoGPTForConditionalGeneration, folder: str | Path, is_trainable: bool = False
) -> PeftModel:
    """Wrap ``model`` with the adapter and the projectors in ``folder``; they are frozen unless ``is_trainable``.

    This package wrote the folder, or the original code, which writes the projectors to ``non_lora_trainables.bin``.
    Without projectors in the folder, those of the base stay, with a warning.

    Raises:
        InputError: If the folder contains no adapter, a file is damaged, or it belongs to a model of another shape.
    """
    if not Path(folder, "adapter_config.json").is_file():
        raise InputError(f"{folder}: contains no adapter_config.json; give the folder that training wrote, or {REMEDY}")
    config, tensors = _lora_config(Path(folder)), _adapter(Path(folder))
    if wrong := sorted(k for k, t in tensors.items() if "lora_A" in k and t.shape[:1] != (config.r,)):
        where = f"{folder}/{ADAPTER_FILES[0]}"
        raise InputError(f"{where}: says r = {config.r}, but {wrong[0]} has another rank; {REMEDY}")
    if not config.modules_to_save:
        config.modules_to_save = MODULES_TO_SAVE
        tensors |= _original_projectors(Path(folder, ORIGINAL_PROJECTORS))
        if not isinstance(config.target_modules, str):  # short names, which layers of CLIP share
            config.target_modules = rf"model\.layers\.\d+\.\w+\.({'|'.join(sorted(config.target_modules or ()))})"
    config.inference_mode = False  # otherwise PEFT rounds the projectors to the precision of the base
    wrapped = _wrap(model, config)
    own = get_peft_model_state_dict(wrapped)
    if not any("projector" in key for key in tensors):
        log.warning("%s: an adapter without projectors; the projectors of the base are used", folder)
        tensors |= {k: t for k, t in own.items() if "projector" in k}
    _check_shapes(tensors, own, folder, f", {config.base_model_name_or_path}")
    set_peft_model_state_dict(wrapped, tensors)
    if not is_trainable:
        wrapped.requires_grad_(False).eval()
    return wrapped


def _lora_config(folder: Path) -> LoraConfig:
    """Read adapter_config.json without PEFT, which would follow any type of adapter and any size."""
    path = folder / ADAPTER_FILES[0]
    values = read_json(path, REMEDY, shape=ADAPTER_SHAPE)
    check_lora_config(values, LoraConfig().to_dict(), path)
    if others := set(values["modules_to_save"] or ()) - set(MODULES_TO_SAVE):
        raise InputError(
            f"{folder}: the adapter replaces {', '.join(sorted(others))}; give one that replaces only projectors"
        )
    targets = values["target_modules"]
    if isinstance(targets, str) and targets != LORA_TARGETS:
        raise InputError(f'{path}: "target_modules" is {shown(targets)}, not {LORA_TARGETS!r}; {REMEDY}')
    if not isinstance(targets, str) and not all(map(str.isidentifier, targets)):
        raise InputError(f'{path}: "target_modules" contains more than names of layers; {REMEDY}')
    kept = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "task_type", "use_rslora")
    config = LoraConfig(**{name: values[name] for name in kept if name in values})
    config.base_model_name_or_path = values.get("base_model_name_or_path")
    return config


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    if (path := folder / ADAPTER_FILES[-1]).is_file():
        return _read(path)
    if (path := folder / ORIGINAL_ADAPTER).is_file():
        return load_pickled(path)
    raise InputError(f"{folder}: contains no {ADAPTER_FILES[-1]}; {REMEDY}")


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); {REMEDY}") from None


def _check_shapes(tensors: dict, own: dict, folder: str | Path, origin: str = "") -> None:
    expected = {k: t.shape for k, t in own.items()}
    if wrong := sorted(
        k for k in expected.keys() | tensors.keys() if k not in tensors or tensors[k].shape != expected.get(k)
    ):
        raise InputError(
            f"{folder}: {len(wrong)} tensors do not fit this base checkpoint, the first is {wrong[0]}; load the "
            f"base of its training{origin}"
        )


def _original_projectors(path: Path) -> dict[str, torch.Tensor]:
    """Read the projectors, whose names are those of PEFT; empty if there is no file."""
    tensors = load_pickled(path) if path.is_file() else {}
    if strange := sorted(k for k in tensors if "mm_projector." not in k):
        raise InputError(f"{path}: contains {strange[0]}, which is not part of a projector; {REMEDY}")
    return tensors


def merge_adapter(
    model: PeftModel | MobileVideoGPTForConditionalGeneration, dtype: torch.dtype = torch.float32
) -> MobileVideoGPTForConditionalGeneration:
    """Add an adapter and its projectors to the base, and return the plain model, its encoders in float32.

    The addition in float32 avoids an extra rounding; the result is then rounded to ``dtype``.
    """
    merged = model.float()
    if isinstance(merged, PeftModel):
        merged = cast(MobileVideoGPTForConditionalGeneration, merged.merge_and_unload())  # the base that it wraps
    for name, parameter in merged.named_parameters():
        if not name.startswith(ENCODERS):
            parameter.data = parameter.data.to(dtype)
    merged.config.dtype = dtype
    return merged


def _wrap(model: MobileVideoGPTForConditionalGeneration, config: LoraConfig) -> PeftModel:
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped
