"""Faster ways to compute the same training step on a GPU: fused layers, and the decoder as CUDA graphs.

A step of the 0.5B model is some 9,000 small kernels; a CPU takes longer to launch them than the GPU to run them. So the
decoder's forward and backward pass are recorded once for each shape and replayed. Nothing here changes a formula:
results differ by rounding, and by which elements dropout draws.
"""

import logging

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from mobilevideogpt.model.lora import fuse_lora

logger = logging.getLogger(__name__)

SHAPES = 8  # recorded, at most; other shapes run as ever


def fuse(model: PeftModel) -> None:
    """Let ``model`` compute LoRA, norms and, with liger-kernel, SwiGLU and RoPE in fewer kernels, in place."""
    fuse_lora(model)
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = _Norm(module)
    try:
        from liger_kernel.ops import LigerSiLUMulFunction
        from liger_kernel.transformers.rope import liger_rotary_pos_emb
    except ImportError:
        logger.info("liger-kernel is not installed; with it, training is a little faster")
        return
    for module in model.modules():
        if isinstance(module, Qwen2MLP):
            module.forward = _SwiGLU(module, LigerSiLUMulFunction)
    modeling_qwen2.apply_rotary_pos_emb = liger_rotary_pos_emb


class _Norm:
    """RMSNorm in one kernel, float32 inside as Qwen2's."""

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


class _LastHidden(nn.Module):
    """The decoder as `torch.cuda.make_graphed_callables` takes it: tensors in, a tensor out."""

    def __init__(self, decoder: nn.Module, forward):
        super().__init__()
        self.decoder, self.run = decoder, forward

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        return self.run(inputs_embeds=inputs_embeds, use_cache=False).last_hidden_state


class GraphedDecoder:
    """Stands in for the decoder's ``forward`` and replays recorded passes, where there is no mask and no cache.

    Gradients must be accumulated into buffers that exist beforehand (`keep_gradients`): a recorded backward pass writes
    to the same memory each time.
    """

    def __init__(self, decoder: nn.Module):
        self.decoder, self.eager = decoder, decoder.forward
        self.recorded: dict[torch.Size, nn.Module] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, inputs_embeds: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs):
        kwargs.pop("return_dict", None)
        plain = attention_mask is None and all(value is None or value is False for value in kwargs.values())
        if not (plain and torch.is_grad_enabled() and self.decoder.training and inputs_embeds.requires_grad):
            return self.eager(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
        with torch.autocast("cuda", enabled=False):  # all is in the precision of the frozen weights
            replay = self.recorded.get(inputs_embeds.shape) or self._record(inputs_embeds)
            if replay is None:
                return self.eager(inputs_embeds=inputs_embeds, use_cache=False)
            return BaseModelOutputWithPast(last_hidden_state=replay(inputs_embeds))

    def _record(self, inputs_embeds: Tensor) -> nn.Module | None:
        if len(self.recorded) == SHAPES:
            return None
        state = torch.cuda.get_rng_state()  # what is tried beforehand must not shift the dropout of the steps
        example = torch.zeros_like(inputs_embeds, requires_grad=True)
        module = _LastHidden(self.decoder, self.eager).train()
        replay = torch.cuda.make_graphed_callables(module, (example,), allow_unused_input=True, pool=self.pool)
        torch.cuda.set_rng_state(state)
        self.recorded[inputs_embeds.shape] = replay
        return replay


def record_decoder(model: PeftModel) -> None:
    """Let the decoder of ``model``, on its GPU and in training mode, run as CUDA graphs from now on, in place."""
    decoder = model.get_base_model().model
    decoder.forward = GraphedDecoder(decoder)
    keep_gradients(model)


def keep_gradients(model: nn.Module) -> None:
    """Give every trainable parameter a gradient of zeros, and let ``zero_grad`` set it to zero again."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    clear = model.zero_grad
    model.zero_grad = lambda set_to_none=False: clear(set_to_none=False)
