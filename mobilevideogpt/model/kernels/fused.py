"""The language model's training step in fewer kernels: fused LoRA, RMSNorm, SwiGLU and RoPE.

No formula changes. Results differ by rounding and by the elements that dropout zeroes.
"""

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from mobilevideogpt.model.kernels.lora import FusedLora

logger = logging.getLogger(__name__)


def fuse(model: Any) -> None:
    """Replace forward functions of ``model`` in place: LoRA (if any), norms and, with liger-kernel, SwiGLU and RoPE."""
    _fuse_lora(model)
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = _RMSNorm(module)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        from liger_kernel.ops import LigerSiLUMulFunction  # pyright: ignore[reportMissingImports]
        from liger_kernel.transformers.rope import liger_rotary_pos_emb  # pyright: ignore[reportMissingImports]
    except ImportError:
        logger.info("liger-kernel is not installed; training is a little faster with it")
        return
    for module in model.modules():
        if isinstance(module, Qwen2MLP):
            module.forward = _SwiGLU(module, LigerSiLUMulFunction)
    modeling_qwen2.apply_rotary_pos_emb = liger_rotary_pos_emb


def _fuse_lora(model: Any) -> None:
    lora = FusedLora(model)
    if not lora.layers:  # the whole language model is trained, or it is quantized
        return
    decoder = model.get_base_model().model
    forward = decoder.forward

    def forward_with_fresh_factors(*args, **kwargs):
        if decoder.training and torch.is_grad_enabled():
            lora.refresh()
        return forward(*args, **kwargs)

    decoder.forward = forward_with_fresh_factors


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
