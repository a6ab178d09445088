"""LoRA's linear layer (arXiv:2106.09685) as one step of autograd, with fewer and smaller kernels than PEFT's modules.

PEFT casts the input to the adapter's float32, drops out and casts back, and adds a scaled product; here all of it is
done in the precision of the frozen weight, and products are accumulated where they belong. Same formula, same
parameters; the result differs by rounding alone.
"""

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn


class _LoraLinear(torch.autograd.Function):
    """``x W' + bias + scaling dropout(x) A' B'``; W is frozen. The gradient of x is in the dtype of x."""

    @staticmethod
    def forward(ctx, x, weight, bias, A, B, scaling, p):
        flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        dropped, kept = torch.native_dropout(flat, p, True) if p else (flat, None)
        middle = dropped @ A.to(weight.dtype).mT
        y = F.linear(flat, weight, bias)
        y.addmm_(middle, (scaling * B).to(weight.dtype).mT)
        ctx.save_for_backward(flat, kept, middle, weight, A, B)
        ctx.scaling, ctx.p, ctx.shape, ctx.dtype = scaling, p, x.shape, x.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, dy):
        flat, kept, middle, weight, A, B = ctx.saved_tensors
        dy = dy.reshape(-1, dy.shape[-1])

        def drop(t):
            return torch.ops.aten.native_dropout_backward(t, kept, 1 / (1 - ctx.p)) if ctx.p else t

        dmiddle = dy @ (ctx.scaling * B).to(weight.dtype)
        dB = ctx.scaling * (dy.mT @ middle).to(B.dtype)
        dA = (dmiddle.mT @ drop(flat)).to(A.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
            dx += drop(dmiddle @ A.to(weight.dtype))
            dx = dx.view(ctx.shape).to(ctx.dtype)
        return dx, None, None, dA, dB, None, None


def lora_linear(x: Tensor, layer: Linear, adapter: str = "default") -> Tensor:
    """What PEFT's ``layer`` computes in training, ``(..., in)`` to ``(..., out)`` in the dtype of its frozen weight."""
    base, dropout = layer.base_layer, layer.lora_dropout[adapter]
    p = dropout.p if isinstance(dropout, nn.Dropout) and layer.training else 0.0
    factors = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return _LoraLinear.apply(x, base.weight, base.bias, *factors, layer.scaling[adapter], p)


def fuse_lora(model: PeftModel) -> None:
    """Let every LoRA layer of ``model`` compute with `lora_linear` while gradients are recorded, in place.

    A layer whose frozen weight is not a plain matrix (quantized, or spread out by ZeRO-3) has to keep PEFT's way.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and type(layer.base_layer) is nn.Linear:
            layer.forward = _Fused(layer)


class _Fused:
    """Stands in for one layer's ``forward``."""

    def __init__(self, layer: Linear):
        self.layer = layer

    def __call__(self, x, *args, **kwargs):
        layer = self.layer
        if torch.is_grad_enabled() and not layer.disable_adapters and not layer.merged:
            return lora_linear(x, layer)
        return type(layer).forward(layer, x, *args, **kwargs)
