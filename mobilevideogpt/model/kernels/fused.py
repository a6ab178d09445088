"""The language model's training step in fewer kernels: with LoRA the whole decoder, otherwise RMSNorm, SwiGLU and RoPE.

No formula changes. Results differ by rounding and by the elements that dropout zeroes.
"""

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from mobilevideogpt.model.kernels.decoder import FusedDecoder, fits

logger = logging.getLogger(__name__)


def fuse(model: Any) -> None:
    """Replace forward functions of ``model`` in place: that of its decoder in training with LoRA, and those of norms.

    Where the decoder does not fit (all weights are trained, or quantized), liger-kernel computes SwiGLU and RoPE, if it
    is installed.
    """
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = _RMSNorm(module)  # pyright: ignore[reportAttributeAccessIssue]
    if fits(model):
        _fuse_decoder(model)
    else:
        _fuse_with_liger(model)


def _fuse_decoder(model: Any) -> None:
    fused, decoder = FusedDecoder(model), model.get_base_model().model
    forward = decoder.forward

    def fused_or_plain(inputs_embeds: Tensor | None = None, attention_mask: Any = None, **kwargs):
        kwargs.pop("return_dict", None)
        kept = kwargs.pop("kept", None)  # the fused pass returns all positions
        no_mask = attention_mask is None or (isinstance(attention_mask, dict) and not any(attention_mask.values()))
        plain = no_mask and all(value is None or value is False for value in kwargs.values())
        if plain and inputs_embeds is not None and decoder.training and torch.is_grad_enabled() and fused.active:
            fused.refresh()
            return BaseModelOutputWithPast(last_hidden_state=fused(inputs_embeds))
        return forward(inputs_embeds=inputs_embeds, attention_mask=attention_mask, kept=kept, **kwargs)

    decoder.forward = fused_or_plain


def _fuse_with_liger(model: Any) -> None:
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # it warns of each backend that is for other machines
    try:
        from liger_kernel.ops import LigerSiLUMulFunction  # pyright: ignore[reportMissingImports]
        from liger_kernel.transformers.rope import liger_rotary_pos_emb  # pyright: ignore[reportMissingImports]
    except ImportError:
        logger.info("liger-kernel is not installed; training all weights, or in 4 bits, is a little faster with it")
        return
    for module in model.modules():
        if isinstance(module, Qwen2MLP):
            module.forward = _SwiGLU(module, LigerSiLUMulFunction)
    modeling_qwen2.apply_rotary_pos_emb = liger_rotary_pos_emb


class _RMSNorm:
    """RMSNorm in one kernel; computes in float32, as Qwen2's."""

    def __init__(self, module: Qwen2RMSNorm):
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.module.weight
        return F.rms_norm(x, weight.shape, weight, self.module.variance_epsilon).to(x.dtype)


class _SwiGLU:
    """The MLP with its gate in one kernel."""

    def __init__(self, module: Qwen2MLP, silu_mul: type[torch.autograd.Function]):
        self.module, self.silu_mul = module, silu_mul

    def __call__(self, x: Tensor) -> Tensor:
        return self.module.down_proj(self.silu_mul.apply(self.module.gate_proj(x), self.module.up_proj(x)))
