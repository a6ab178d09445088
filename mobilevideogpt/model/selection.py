"""Which frames go to the video encoder (Mobile-VideoGPT, arXiv:2503.21782, attention-based frame scoring)."""

import torch
from torch import Tensor


def frame_scores(context_features: Tensor) -> Tensor:
    """How much attention the tokens of each frame receive within their chunk, without learned projections.

    Args:
        context_features: Context tokens by chunk, ``(..., F, N, W)``.

    Returns:
        ``(..., F)``, float32 at least: near 200, the steps of half precision would decide instead of the picture. The
        scores of a chunk sum to F * N.
    """
    frames = context_features.shape[-3]
    tokens = context_features.flatten(-3, -2)  # (..., F * N, W)
    if tokens.dtype in (torch.float16, torch.bfloat16):
        tokens = tokens.float()
    with torch.autocast(tokens.device.type, enabled=False):
        attention = torch.softmax(tokens @ tokens.mT * tokens.shape[-1] ** -0.5, dim=-1)
    return attention.sum(-2).unflatten(-1, (frames, -1)).sum(-1)


def select_frames(scores: Tensor, count: int, highest: bool = True) -> Tensor:
    """Positions of the ``count`` highest (lowest) scores along the last axis, in ascending order."""
    return scores.topk(count, dim=-1, largest=highest).indices.sort(dim=-1).values
