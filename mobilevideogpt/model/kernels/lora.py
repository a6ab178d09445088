"""LoRA's linear layers (arXiv:2106.09685) in training, with fewer and smaller kernels than PEFT's modules.

PEFT casts the input to the adapter's float32, drops out and casts back, and adds a scaled product; here all of it is
done in the precision of the frozen weight, and products are accumulated where they belong. Same formula, same
parameters; the result differs by rounding, and on a GPU by the elements that dropout draws.
"""

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

from mobilevideogpt.model.kernels.scan import triton_works

MOST_RANKS = 128  # whose tiles fit the shared memory of a GeForce
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # read the same input, in this order


class FusedLora:
    """Computes the LoRA layers of ``model`` in training, from now on, in place; else PEFT does.

    A layer whose frozen weight is not a plain matrix (quantized, or spread out by ZeRO-3) stays PEFT's. `refresh` must
    be called before each forward pass, and the backward pass must follow before the next.
    """

    def __init__(self, model: PeftModel):
        self.layers = [_Layer(m) for m in model.modules() if isinstance(m, Linear) and type(m.base_layer) is nn.Linear]
        of_module = {layer.module: layer for layer in self.layers}
        for module in model.modules():
            for names in TOGETHER:
                first, *others = (of_module.get(getattr(module, name, None)) for name in names)
                if first and None not in others:
                    first.others = others
        for layer in self.layers:
            layer.module.forward = layer

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the factors to the precision of the frozen weights and draw dropout's seeds, all at once."""
        factors = [factor for layer in self.layers for factor in layer.factors]
        if self.layers[0].seed is None:
            seeds = torch.empty(len(self.layers), dtype=torch.int64, device=factors[0].device)
            for layer, seed in zip(self.layers, seeds.split(1), strict=True):
                layer.seed, layer.rounded = seed, [torch.empty_like(f, dtype=layer.dtype) for f in layer.factors]
        torch._foreach_copy_([half for layer in self.layers for half in layer.rounded], factors)
        if _kernels(self.layers[0].rounded[0]):
            self.layers[0].seed._base.random_()


class _Layer:
    """Stands in for the ``forward`` of one of PEFT's layers."""

    def __init__(self, module: Linear):
        (adapter,) = module.active_adapters
        self.module, self.base, dropout = module, module.base_layer, module.lora_dropout[adapter]
        self.down, self.up = module.lora_A[adapter], module.lora_B[adapter]
        self.scaling = module.scaling[adapter]
        self.p = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
        self.dtype = self.base.weight.dtype
        self.rounded: list[Tensor] | None = None  # the factors in this dtype
        self.seed: Tensor | None = None
        self.others: list[_Layer] = []
        self.known: tuple[Tensor, Tensor] | None = None  # input and output, computed together with another layer's

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """A ``(r, in)`` and B ``(out, r)``."""
        return self.down.weight, self.up.weight

    def __call__(self, x: Tensor, *args, **kwargs) -> Tensor:
        module = self.module
        if not (torch.is_grad_enabled() and module.training) or module.disable_adapters or module.merged:
            return type(module).forward(module, x, *args, **kwargs)
        known, self.known = self.known, None
        if known and known[0] is x:
            return known[1]
        layers = [self, *self.others]
        y, *of_others = _LoraLinears.apply(x, layers, *(factor for layer in layers for factor in layer.factors))
        for other, of_other in zip(self.others, of_others, strict=True):
            other.known = x, of_other
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
            # The small product first: the large one adds to it at less cost than the other way round.
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


def kernels_take(dtype: torch.dtype, ranks: int) -> bool:
    """Whether the Triton kernels take LoRA of such a rank in this precision on this machine's GPU, if it has one."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return False  # Triton has no use for the tensor cores of these
    return dtype in (torch.float16, torch.bfloat16) and ranks <= MOST_RANKS


def _kernels(a: Tensor):
    """The module of Triton kernels, where they take the rounded factor ``a``, ``(r, in)``."""
    if not (a.is_cuda and kernels_take(a.dtype, len(a)) and triton_works()):
        return None
    from mobilevideogpt.model.kernels import lora_triton

    return lora_triton
