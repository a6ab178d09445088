"""The model of a fine-tuning: loaded, with LoRA if asked for, under autocast, with the supported optimisations."""

import math
import os
from typing import Any

import torch
from torch import nn

from mobilevideogpt.model.adapter import add_lora, nf4
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.kernels.fused import fuse
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training.cuda_graphs import can_be_captured, capture_passes
from mobilevideogpt.training.optimizer import kind_of
from mobilevideogpt.training.plan import Optimisations, length_multiple
from mobilevideogpt.training.settings import TrainingSettings


def load_for_training(settings: TrainingSettings, paths: ModelPaths):
    """Load the base; both projectors and, by ``method``, LoRA or the language model are trainable in float32.

    Frozen weights have the chosen precision. The encoders are dropped, as training reads cached features.
    """
    full = settings.method == "full"
    dtype = DTYPES["fp32" if full else settings.precision]
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # this process's; quantized weights are packed there
    quantized = nf4(dtype, gpu if torch.cuda.is_available() else "cpu") if settings.quantization == "nf4" else {}
    model: Any = MobileVideoGPTForConditionalGeneration.from_pretrained(
        paths.base, **paths.encoders, dtype=dtype, **quantized
    )
    model.model.vision_tower = None
    model.model.image_vision_tower = None
    if full:
        return model
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # validation would pack a quantized weight for inference
            module.support_avx512bf16_for_cpu = False
    return add_lora(model, r=settings.lora_r, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout)


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Count parameters: the trainable ones by kind, and the frozen ones."""
    counts = {"lora": 0, "language_model": 0, "projectors": 0, "frozen": 0}
    for name, parameter in model.named_parameters():
        quantized = getattr(parameter, "quant_state", None)  # 4-bit weights are packed two in a byte
        shape = quantized.shape if quantized else parameter.shape
        counts[kind_of(name) if parameter.requires_grad else "frozen"] += shape.numel()
    return counts


def autocast(model: nn.Module, device_type: str) -> None:
    """Run the forward pass of ``model`` under bf16 autocast, in place.

    The module itself is wrapped: DeepSpeed disables an autocast outside its engine, and its own would also round the
    gradients that the processes exchange. Autocast's cache is off, as each weight is used once in a pass.
    """
    model.forward = torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=False)(model.forward)


def keep_mode(model: nn.Module) -> None:
    """Have ``model.train(mode)`` do nothing in that mode, in place: to visit all modules takes 5 ms of each step."""
    visit = model.train
    visit(model.training)  # modules that were loaded may differ from the one around them

    def train(mode: bool = True) -> nn.Module:
        return model if model.training == mode else visit(mode)

    model.train = train


def optimise(model, optimisations: Optimisations, micro_batch: int, longest: int, visual_tokens: int) -> int:
    """Apply the supported optimisations to ``model`` in place.

    Args:
        model: On any device; CUDA graphs are captured later, on its GPU.
        optimisations: The supported ones.
        micro_batch: Samples of a forward pass.
        longest: Tokens of the longest sample.
        visual_tokens: Tokens of the video among them.

    Returns:
        The multiple to which a training batch is padded.
    """
    if optimisations.fused:
        fuse(model)
    if not (optimisations.cuda_graphs and can_be_captured(model)):
        return 1
    multiple = length_multiple(longest - visual_tokens)
    capture_passes(model, largest=(micro_batch, multiple * math.ceil(longest / multiple)))
    return multiple
