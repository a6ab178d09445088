"""The decoder of a model with LoRA in training, with few kernels and few kept activations.

A layer is four products in each direction: queries, keys and values; the attention's output; gate and up; down. LoRA's
products are part of them (`lora`). Between them are single operations: residual addition with norm, RoPE, SwiGLU. The
backward pass computes norms and SwiGLU again. Formulas are those of transformers and PEFT. Results differ by
rounding, and on a GPU by the elements that dropout zeroes. Shapes: B clips, L tokens of each, W the decoder's width.
"""

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from mobilevideogpt.model.kernels import decoder_torch
from mobilevideogpt.model.kernels.backends import lora_kernels_support, triton_works
from mobilevideogpt.model.kernels.lora import LoraGroup, plain_lora


class FusedDecoder:
    """The forward pass of a decoder whose linear layers all have LoRA, and whose other weights are frozen.

    Call `refresh` before each forward pass, and run the backward pass before the next forward pass.
    """

    def __init__(self, model: PeftModel):
        decoder: Any = model.get_base_model().model
        self.decoder = decoder
        self.layers = [_Layer(layer) for layer in decoder.layers]
        self.groups = [group for layer in self.layers for group in layer.groups]
        self.ops: ModuleType = decoder_torch

    @property
    def active(self) -> bool:
        """Whether LoRA counts in all layers."""
        return all(group.active for group in self.groups)

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the factors to the precision of the frozen weights, and draw the seeds of dropout."""
        first = self.groups[0]
        if first.seeds is None:
            device = first.bases[0].weight.device
            self.seeds = torch.empty(sum(len(group.rows) for group in self.groups), dtype=torch.int64, device=device)
            parts = self.seeds.split([len(group.rows) for group in self.groups])
            for group, seeds in zip(self.groups, parts, strict=True):
                group.prepare(seeds)
            self.ops = _operations(first)
            if device.type == "cuda":
                torch.cuda.empty_cache()  # where the weights were before
        rounded = [factor for group in self.groups for factor in group.rounded]
        factors = [factor for group in self.groups for factor in group.factors]
        torch._foreach_copy_(rounded, factors)  # pyright: ignore[reportPrivateImportUsage]
        if self.ops is not decoder_torch:
            self.seeds.random_()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the last hidden states ``(B, L, W)`` of embedded tokens without padding on the left."""
        x = x.to(self.groups[0].bases[0].weight.dtype)
        positions = torch.arange(x.shape[1], device=x.device)[None]
        rotation = self.decoder.rotary_emb(x, positions)
        layers, delta = self.layers[: len(self.decoder.layers)], None
        for layer in layers:
            run = layer.checkpointed if layer.module.gradient_checkpointing else layer
            x, delta = run(self.ops, x, delta, *rotation)
        return _Norm.apply(x, delta, self.decoder.norm, self.ops)


def fits(model: Any) -> bool:
    """Tell whether `FusedDecoder` computes the decoder of ``model``."""
    if not isinstance(model, PeftModel):
        return False
    config: Any = model.get_base_model().config
    if config._attn_implementation != "sdpa" or set(config.layer_types) != {"full_attention"}:
        return False
    if config.hidden_act != "silu":
        return False
    base: Any = model.get_base_model()
    return all(plain_lora(module) is not None for layer in base.model.layers for module in _linear_layers(layer))


def _linear_layers(layer: Any) -> list:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _operations(group: LoraGroup) -> ModuleType:
    """Return the module of operations for a group, whose weights are on their device."""
    weight = group.bases[0].weight
    if not (weight.is_cuda and lora_kernels_support(weight.dtype, group.r) and triton_works()):
        return decoder_torch
    from mobilevideogpt.model.kernels import decoder_triton

    return decoder_triton


class _Layer:
    """A decoder layer; its input and output are the residual stream and a branch that is not added yet."""

    def __init__(self, module: Any):
        self.module = module
        q, k, v, o, gate, up, down = _linear_layers(module)
        self.groups = LoraGroup(q, k, v), LoraGroup(o), LoraGroup(gate, up), LoraGroup(down)
        self.heads = [group.out_features // module.self_attn.head_dim for group in (q, k, v)]

    def __call__(
        self, ops: ModuleType, x: Tensor, delta: Tensor | None, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor]:
        attention, (qkv, o, gate_up, down) = self.module.self_attn, self.groups
        norm = self.module.input_layernorm
        x, q, k, v = _QueriesKeysValues.apply(x, delta, cos, sin, norm, self.heads, qkv, ops, *qkv.factors)
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=attention.scaling, enable_gqa=True, dropout_p=attention.attention_dropout
        )
        y = y.transpose(1, 2).flatten(2)
        delta = _Output.apply(y, o, ops, *o.factors)
        norm = self.module.post_attention_layernorm
        return _MLP.apply(x, delta, norm, gate_up, down, ops, *gate_up.factors, *down.factors)

    def checkpointed(self, *args: Any) -> Any:
        """Compute the layer again in the backward pass."""
        return self.module._gradient_checkpointing_func(self.__call__, *args)


class _QueriesKeysValues(torch.autograd.Function):
    """Sum of the residual stream; queries, keys and values ``(B, heads, L, width)`` of its norm, rotated."""

    @staticmethod
    def forward(ctx, x, delta, cos, sin, norm: Qwen2RMSNorm, heads: list[int], group: LoraGroup, ops, *factors):
        clips, length, _ = x.shape
        residual, rstd, inputs, middles, masks = ops.norm_inputs(
            _flat(x), None if delta is None else _flat(delta), norm.weight, norm.variance_epsilon, group
        )
        y = group.product(inputs)
        y = y.view(clips, length, sum(heads), -1).transpose(1, 2)
        turned = y[:, : heads[0] + heads[1]]
        ops.rotate(turned, turned, cos, sin, 1)
        ctx.save_for_backward(residual, rstd, middles, cos, sin)
        ctx.norm, ctx.heads, ctx.group, ctx.ops, ctx.masks, ctx.adds = norm, heads, group, ops, masks, delta is not None
        return (residual.view_as(x) if ctx.adds else residual.view_as(x).clone(), *y.split(heads, 1))

    @staticmethod
    def backward(ctx, dresidual, *dys):
        residual, rstd, middles, cos, sin = ctx.saved_tensors
        clips, _, length, width = dys[0].shape
        dy = torch.empty(clips * length, sum(ctx.heads) * width, dtype=residual.dtype, device=residual.device)
        parts = dy.view(clips, length, -1, width).transpose(1, 2).split(ctx.heads, 1)
        for part, gradient, sign in zip(parts, dys, (-1, -1, 0), strict=True):
            gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
            ctx.ops.rotate(gradient, part, cos, sin, sign)
        dcat, dbs = ctx.group.gradients(dy, middles)
        dx, da = ctx.ops.norm_gradients(residual, rstd, ctx.norm.weight, ctx.group, dcat, _flat(dresidual), ctx.masks)
        dx = dx.view(clips, length, -1)
        return dx, dx if ctx.adds else None, *[None] * 6, *ctx.group.of_factors(da, dbs)


class _Output(torch.autograd.Function):
    """A linear layer with LoRA, ``(B, L, K)`` to ``(B, L, W)``."""

    @staticmethod
    def forward(ctx, x, group: LoraGroup, ops, *factors):
        inputs, middles, masks = ops.plain_inputs(_flat(x), group)
        ctx.save_for_backward(x, middles)
        ctx.group, ctx.ops, ctx.masks = group, ops, masks
        return group.product(inputs).view(*x.shape[:2], -1)

    @staticmethod
    def backward(ctx, dy):
        x, middles = ctx.saved_tensors
        dcat, dbs = ctx.group.gradients(_flat(dy), middles)
        dx, da = ctx.ops.plain_gradients(_flat(x), ctx.group, dcat, ctx.masks)
        return dx.view(x.shape), None, None, *ctx.group.of_factors(da, dbs)


class _MLP(torch.autograd.Function):
    """Sum of the residual stream, and the MLP of its norm, both ``(B, L, W)``."""

    @staticmethod
    def forward(ctx, x, delta, norm: Qwen2RMSNorm, gate_up: LoraGroup, down: LoraGroup, ops, *factors):
        residual, rstd, inputs, middles, masks = ops.norm_inputs(
            _flat(x), _flat(delta), norm.weight, norm.variance_epsilon, gate_up
        )
        both = gate_up.product(inputs)
        inputs, of_down, down_masks = ops.swiglu_inputs(both, down)
        ctx.save_for_backward(residual, rstd, middles, both, of_down)
        ctx.norm, ctx.gate_up, ctx.down, ctx.ops, ctx.masks = norm, gate_up, down, ops, (masks, down_masks)
        return residual.view_as(x), down.product(inputs).view_as(x)

    @staticmethod
    def backward(ctx, dresidual, dy):
        residual, rstd, middles, both, of_down = ctx.saved_tensors
        masks, down_masks = ctx.masks
        dcat, down_dbs = ctx.down.gradients(_flat(dy), of_down)
        dboth, down_da = ctx.ops.swiglu_gradients(both, ctx.down, dcat, down_masks)
        dcat, dbs = ctx.gate_up.gradients(dboth, middles)
        dx, da = ctx.ops.norm_gradients(residual, rstd, ctx.norm.weight, ctx.gate_up, dcat, _flat(dresidual), masks)
        dx = dx.view_as(dresidual)
        of_gate_up = ctx.gate_up.of_factors(da, dbs)
        return dx, dx, *[None] * 4, *of_gate_up, *ctx.down.of_factors(down_da, down_dbs)


class _Norm(torch.autograd.Function):
    """The norm of the sum of the residual stream, ``(B, L, W)``."""

    @staticmethod
    def forward(ctx, x, delta, norm: Qwen2RMSNorm, ops):
        residual, rstd, y, _, _ = ops.norm_inputs(_flat(x), _flat(delta), norm.weight, norm.variance_epsilon, None)
        ctx.save_for_backward(residual, rstd)
        ctx.norm, ctx.ops = norm, ops
        return y.view(x.shape)

    @staticmethod
    def backward(ctx, dy):
        residual, rstd = ctx.saved_tensors
        dx, _ = ctx.ops.norm_gradients(residual, rstd, ctx.norm.weight, None, _flat(dy), None, None)
        dx = dx.view(dy.shape)
        return dx, dx, None, None


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).contiguous()
