"""Selection of the frames for the video encoder (Mobile-VideoGPT, arXiv:2503.21782, attention-based frame scoring)."""

import torch
from torch import Tensor


def frame_scores(context_features: Tensor) -> Tensor:
    """Score each frame by the attention that its tokens receive within the chunk, without learned projections.

    Args:
        context_features: Context tokens by chunk, ``(..., F, N, W)``.

    Returns:
        ``(..., F)``, in float32 at least, because scores are near 200, where the steps of half precision exceed the
        differences between frames. The scores of a chunk sum to F * N.
    """
    frames = context_features.shape[-3]
    tokens = context_features.flatten(-3, -2)  # (..., F * N, W)
    if tokens.dtype in (torch.float16, torch.bfloat16):
        tokens = tokens.float()
    with torch.autocast(tokens.device.type, enabled=False):
        attention = torch.softmax(tokens @ tokens.mT * tokens.shape[-1] ** -0.5, dim=-1)
    return attention.sum(-2).unflatten(-1, (frames, -1)).sum(-1)


def select_frames(scores: Tensor, count: int, highest: bool = True) -> Tensor:
    """Return positions of the ``count`` highest (or lowest) scores along the last axis, in ascending order."""
    return scores.topk(count, dim=-1, largest=highest).indices.sort(dim=-1).values
