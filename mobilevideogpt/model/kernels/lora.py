"""LoRA's linear layers (arXiv:2106.09685) that read one input, as one product in training.

PEFT casts the input to the adapter's float32, applies dropout, casts back and adds a scaled product, for each layer.
Here the products with A stand beside the input, and B beside the frozen W: ``[x, scaling dropout(x) A'] [W, B]'``. All
is in the precision of the frozen weights and summed in float32. Formula and parameters are PEFT's.
"""

from collections.abc import Sequence
from typing import cast

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn


class LoraGroup:
    """LoRA layers that read one input; the frozen weights of all stand in one tensor, of which they become views.

    Args:
        modules: PEFT's layers, of plain linear layers, with equal rank, scaling and dropout.
    """

    def __init__(self, *modules: Linear):
        self.modules = modules
        self.bases = [cast(nn.Linear, module.base_layer) for module in modules]
        self.rows = [base.out_features for base in self.bases]
        names = [next(iter(module.active_adapters)) for module in modules]
        self._factors = [
            (cast(nn.Linear, module.lora_A[name]), cast(nn.Linear, module.lora_B[name]))
            for module, name in zip(modules, names, strict=True)
        ]
        dropout = modules[0].lora_dropout[names[0]]
        self.p = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
        self.scaling = modules[0].scaling[names[0]]
        self.r = self._factors[0][0].out_features
        self.rank = max(16, 1 << (self.r - 1).bit_length())  # with zeros, as tensor cores need
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.a: Tensor
        self.rounded: list[Tensor] = []
        self.seeds: Tensor | None = None  # of dropout, ``(n,)``

    @property
    def active(self) -> bool:
        """Whether the adapter counts: it is neither disabled nor merged into the frozen weights."""
        return not any(module.disable_adapters or module.merged for module in self.modules)

    @property
    def factors(self) -> list[Tensor]:
        """A ``(r, K)`` and B ``(rows, r)`` of each layer, as trained."""
        return [factor.weight for pair in self._factors for factor in pair]

    @torch.no_grad()
    def prepare(self, seeds: Tensor) -> None:
        """Put the frozen weights, on their device, into one tensor, with room for B."""
        first, n = self.bases[0].weight, len(self.bases)
        width = first.shape[1]
        self.weight, self.seeds = first.new_zeros(sum(self.rows), width + n * self.rank), seeds
        self.a = first.new_zeros(n * self.rank, width)
        if any(base.bias is not None for base in self.bases):
            biases = zip(self.bases, self.rows, strict=True)
            self.bias = torch.cat([first.new_zeros(rows) if b.bias is None else b.bias.detach() for b, rows in biases])
        for i, (base, rows) in enumerate(zip(self.bases, self.weight.split(self.rows), strict=True)):
            rows[:, :width] = base.weight
            base.weight.data = rows[:, :width]
            start = i * self.rank
            self.rounded += [self.a[start : start + self.r], rows[:, width + start : width + start + self.r]]

    def product(self, inputs: Tensor) -> Tensor:
        """Return the outputs of all layers beside each other, ``(T, sum of rows)``, of ``(T, K + n R)``."""
        assert self.weight is not None
        return inputs @ self.weight.mT if self.bias is None else torch.addmm(self.bias, inputs, self.weight.mT)

    def gradients(self, dy: Tensor, middles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the gradient of `product`'s inputs, and those of each factor B in float32."""
        if dy.is_cuda and dy.dtype != torch.float32:
            db = torch.mm(dy.mT, middles, out_dtype=torch.float32)
        else:
            db = (dy.mT @ middles).float()
        parts = db.split(self.rows)
        assert self.weight is not None
        return dy @ self.weight, [part[:, i * self.rank :][:, : self.r] for i, part in enumerate(parts)]

    def of_factors(self, da: Tensor, dbs: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients in the order of `factors`; ``da`` is ``(n R, K)``."""
        das = [part[: self.r] for part in da.split(self.rank)]
        return [gradient for pair in zip(das, dbs, strict=True) for gradient in pair]


def plain_lora(module: nn.Module | None) -> Linear | None:
    """Return ``module`` if it is a LoRA layer whose frozen weight is a plain matrix (not quantized), else None."""
    return module if isinstance(module, Linear) and type(module.base_layer) is nn.Linear else None
