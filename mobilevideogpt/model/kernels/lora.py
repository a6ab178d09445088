"""LoRA's linear layers (arXiv:2106.09685) in training, with fewer and smaller kernels than PEFT's modules.

PEFT casts the input to the adapter's float32, applies dropout, casts back and adds a scaled product. Here every step
runs in the precision of the frozen weight, and products are accumulated in place. Formula and parameters are the same.
The result differs by rounding, and on a GPU by the elements that dropout zeroes.
"""

from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

from mobilevideogpt.model.kernels.backends import triton_works

MAX_RANK = 128  # up to which the tiles fit the shared memory of a GeForce
SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # layers that read one input, in this order


class FusedLora:
    """Replaces the forward pass of the LoRA layers of ``model`` in training; otherwise PEFT's modules still run.

    A layer keeps PEFT's module if its frozen weight is not a plain matrix (quantized, or partitioned by ZeRO-3). Call
    `refresh` before each forward pass, and run the backward pass before the next forward pass.
    """

    def __init__(self, model: PeftModel):
        self.layers = [_Layer(m) for m in model.modules() if isinstance(m, Linear) and type(m.base_layer) is nn.Linear]
        self.seeds: Tensor | None = None  # of dropout, one a layer, once `refresh` was called
        of_module: dict[nn.Module | None, _Layer] = {layer.module: layer for layer in self.layers}
        for module in model.modules():
            for names in SAME_INPUT:
                layers = [layer for name in names if (layer := of_module.get(getattr(module, name, None)))]
                if len(layers) == len(names):
                    layers[0].others = layers[1:]
        for layer in self.layers:
            layer.module.forward = layer

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the factors to the precision of the frozen weights, and draw the seeds of dropout."""
        factors = [factor for layer in self.layers for factor in layer.factors]
        if self.seeds is None:
            self.seeds = torch.empty(len(self.layers), dtype=torch.int64, device=factors[0].device)
            for layer, seed in zip(self.layers, self.seeds.split(1), strict=True):
                layer.seed, layer.rounded = seed, [torch.empty_like(f, dtype=layer.dtype) for f in layer.factors]
        rounded = [factor for layer in self.layers for factor in layer.rounded]
        torch._foreach_copy_(rounded, factors)  # pyright: ignore[reportPrivateImportUsage]
        if _kernels(rounded[0]):
            self.seeds.random_()


class _Layer:
    """The ``forward`` of one LoRA layer, in place of PEFT's."""

    def __init__(self, module: Linear):
        (adapter,) = module.active_adapters
        self.module, dropout = module, module.lora_dropout[adapter]
        # PEFT's containers are of any module; `FusedLora` selected a linear base, whose factors are linear.
        self.base = cast(nn.Linear, module.base_layer)
        self.down, self.up = cast(nn.Linear, module.lora_A[adapter]), cast(nn.Linear, module.lora_B[adapter])
        self.scaling = module.scaling[adapter]
        self.p = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
        self.dtype = self.base.weight.dtype
        self.rounded: list[Tensor] = []  # the factors in this dtype, once `refresh` was called
        self.seed: Tensor | None = None  # of dropout
        self.others: list[_Layer] = []  # layers with the same input, computed together with this one
        self.computed: tuple[Tensor, Tensor] | None = None  # input and output, where another layer computed it

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """LoRA's A ``(r, in)`` and B ``(out, r)``."""
        return self.down.weight, self.up.weight

    def __call__(self, x: Tensor, *args, **kwargs) -> Tensor:
        module = self.module
        if not (torch.is_grad_enabled() and module.training) or module.disable_adapters or module.merged:
            return type(module).forward(module, x, *args, **kwargs)
        computed, self.computed = self.computed, None
        if computed and computed[0] is x:
            return computed[1]
        layers = [self, *self.others]
        y, *of_others = _LoraLinears.apply(x, layers, *(factor for layer in layers for factor in layer.factors))
        for other, of_other in zip(self.others, of_others, strict=True):
            other.computed = x, of_other
        return y


class _LoraLinears(torch.autograd.Function):
    """``x W' + bias + scaling dropout(x) A' B'`` for each layer; W is frozen. The gradient of x has the dtype of x."""

    @staticmethod
    def forward(ctx, x: Tensor, layers: list[_Layer], *factors: Tensor):
        flat = x.reshape(-1, x.shape[-1]).to(layers[0].dtype).contiguous()
        kernels = _kernels(layers[0].rounded[0])
        middles, masks, ys = [], [], []
        for layer in layers:
            a, b = layer.rounded
            if kernels:
                middle, mask = kernels.down(flat, a, layer.seed, layer.p, layer.scaling), None
            else:
                dropped, mask = torch.native_dropout(flat, layer.p, True) if layer.p else (flat, None)
                middle = layer.scaling * (dropped @ a.mT)
            # The small product comes first, because adding the large one to it is cheaper than the reverse.
            y = F.linear(middle, b, layer.base.bias)
            y.addmm_(flat, layer.base.weight.mT)
            ys.append(y.view(*x.shape[:-1], -1))
            middles.append(middle)
            masks.append(mask)
        ctx.save_for_backward(flat, *middles, *masks)
        ctx.layers, ctx.shape, ctx.dtype = layers, x.shape, x.dtype
        return tuple(ys)

    @staticmethod
    def backward(ctx, *dys: Tensor):
        flat, *saved = ctx.saved_tensors
        kernels, n = _kernels(ctx.layers[0].rounded[0]), len(ctx.layers)
        dx, dfactors = None, []
        for layer, dy, middle, mask in zip(ctx.layers, dys, saved[:n], saved[n:], strict=True):
            a, b = layer.rounded
            dy = dy.reshape(-1, dy.shape[-1])
            dmiddle = dy @ b
            if ctx.needs_input_grad[0]:
                dx = dy @ layer.base.weight if dx is None else dx.addmm_(dy, layer.base.weight)
            if kernels:
                dB = torch.mm(dy.mT, middle, out_dtype=torch.float32)
                dA = kernels.add_gradients(flat, a, layer.seed, layer.p, layer.scaling, dmiddle, dx)
            else:

                def drop(t, layer=layer, mask=mask):
                    scale = 1 / (1 - layer.p)
                    return t if mask is None else torch.ops.aten.native_dropout_backward(t, mask, scale)

                dB = (dy.mT @ middle).float()
                dA = layer.scaling * (dmiddle.mT @ drop(flat)).float()
                if dx is not None:
                    dx += layer.scaling * drop(dmiddle @ a)
            dfactors += [dA, dB]
        if dx is not None:
            dx = dx.view(ctx.shape).to(ctx.dtype)
        return dx, None, *dfactors


def kernels_support(dtype: torch.dtype, rank: int) -> bool:
    """Tell whether the Triton kernels support this precision and rank on the GPU, or without one, on a recent GPU."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return False  # Triton does not use the tensor cores of these GPUs
    return dtype in (torch.float16, torch.bfloat16) and rank <= MAX_RANK


def _kernels(a: Tensor) -> ModuleType | None:
    """Return the module of Triton kernels if they support the rounded factor ``a``, ``(r, in)``."""
    if not (a.is_cuda and kernels_support(a.dtype, len(a)) and triton_works()):
        return None
    from mobilevideogpt.model.kernels import lora_triton

    return lora_triton
