"""The operations between the products of a decoder layer with LoRA, in PyTorch, for every device and precision.

Shapes: T tokens, K inputs of a group of layers (`lora.LoraGroup`), n layers in it, R its rank. The input of a group is
computed here with its products with LoRA's A beside it, so that one product with ``[W, B]`` gives all outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_inputs(x: Tensor, group) -> tuple[Tensor, Tensor, list | None]:
    """Write the products with A beside an input.

    Args:
        x: ``(T, K)``.
        group: The `lora.LoraGroup`, or None.

    Returns:
        ``[x, scaling dropout(x) A']`` ``(T, K + n R)``, the products alone, and dropout's masks.
    """
    if group is None:
        return x, x[:, :0], None
    middles, masks = [], []
    for a in group.a.split(group.rank):
        dropped, mask = torch.native_dropout(x, group.p, True) if group.p else (x, None)
        middles.append(group.scaling * (dropped @ a.mT))
        masks.append(mask)
    return torch.cat([x, *middles], 1), torch.cat(middles, 1), masks if group.p else None


def norm_inputs(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, group):
    """Add a branch to the residual stream, and norm it (RMSNorm, in float32).

    Args:
        x: Residual stream, ``(T, K)``.
        delta: Result of a branch, ``(T, K)``, or None.
        weight: Of the norm, ``(K,)``.
        eps: Of the norm.
        group: Layers that read the norm, or None.

    Returns:
        The sum, the factors of the norm ``(T,)`` float32, and what `plain_inputs` returns of the norm.
    """
    residual = x if delta is None else x + delta
    rstd = torch.rsqrt(residual.float().square().mean(-1) + eps)
    return residual, rstd, *plain_inputs(_norm(residual, rstd, weight), group)


def swiglu_inputs(gate_up: Tensor, group) -> tuple[Tensor, Tensor, list | None]:
    """Return what `plain_inputs` returns of ``silu(gate) up``, for both beside each other, ``(T, 2 K)``."""
    return plain_inputs(_swiglu(gate_up), group)


def plain_gradients(x: Tensor, group, dcat: Tensor, masks: list | None) -> tuple[Tensor, Tensor]:
    """Return the gradients in `plain_inputs` of ``x`` and of the factors A.

    Args:
        x: ``(T, K)``.
        group: The `lora.LoraGroup`.
        dcat: Gradient of the first result, ``(T, K + n R)``.
        masks: Those that `plain_inputs` returned.

    Returns:
        ``(T, K)``, and ``(n R, K)`` in float32.
    """
    dx, das = dcat[:, : x.shape[1]].clone(), []
    if group is None:
        return dx, x.new_zeros(0, x.shape[1], dtype=torch.float32)
    dmiddles = dcat[:, x.shape[1] :].split(group.rank, 1)
    for a, dmiddle, mask in zip(group.a.split(group.rank), dmiddles, masks or [None] * len(group.rows), strict=True):

        def drop(t, mask=mask):
            return t if mask is None else torch.ops.aten.native_dropout_backward(t, mask, 1 / (1 - group.p))

        das.append(group.scaling * (dmiddle.mT @ drop(x)).float())
        dx += group.scaling * drop(dmiddle @ a)
    return dx, torch.cat(das)


def norm_gradients(
    residual: Tensor, rstd: Tensor, weight: Tensor, group, dcat: Tensor, dresidual: Tensor | None, masks: list | None
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients in `norm_inputs` of ``x``, which is that of ``delta``, too, and of the factors A.

    Args:
        residual: The sum.
        rstd: Factors of the norm.
        weight: Of the norm.
        group: Layers that read the norm, or None.
        dcat: Gradient of `plain_inputs`'s first result; it may be changed.
        dresidual: Gradient of the sum, or None.
        masks: Those that `norm_inputs` returned.
    """
    dnorm, da = plain_gradients(_norm(residual, rstd, weight), group, dcat, masks)
    scaled = residual.float() * rstd[:, None]
    g = dnorm.float() * weight.float()
    dx = rstd[:, None] * (g - scaled * (g * scaled).mean(-1, keepdim=True))
    return (dx if dresidual is None else dx + dresidual).to(residual.dtype), da if group else None


def swiglu_gradients(gate_up: Tensor, group, dcat: Tensor, masks: list | None) -> tuple[Tensor, Tensor]:
    """Return the gradients in `swiglu_inputs` of ``gate_up`` and of the factors A."""
    dh, da = plain_gradients(_swiglu(gate_up), group, dcat, masks)
    gate, up = gate_up.float().chunk(2, 1)
    sigmoid = torch.sigmoid(gate)
    dgate = dh * up * (gate * sigmoid * (1 - sigmoid) + sigmoid)
    return torch.cat([dgate, dh * gate * sigmoid], 1).to(gate_up.dtype), da


def rotate(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, sign: int) -> None:
    """Write heads ``x`` to ``y``, rotated by their tokens' positions (RoPE, arXiv:2104.09864).

    Args:
        x: ``(clips, heads, tokens, width)`` with adjacent columns.
        y: Likewise; may be ``x``.
        cos: ``(1 or clips, tokens, width)``, both halves of its columns equal.
        sin: Likewise.
        sign: 1, -1 to rotate back, or 0 to copy.
    """
    if not sign:
        y.copy_(x)
        return
    half = x.shape[-1] // 2
    c, s = cos[:, None, :, :half].float(), sign * sin[:, None, :, :half].float()
    first, second = x[..., :half].float(), x[..., half:].float()
    y[..., :half], y[..., half:] = first * c - second * s, second * c + first * s


def _norm(residual: Tensor, rstd: Tensor, weight: Tensor) -> Tensor:
    return (residual.float() * rstd[:, None] * weight.float()).to(residual.dtype)


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, 1)
    return F.silu(gate.float()).to(up.dtype) * up
