"""Projectors from encoder tokens to language model tokens (Mobile-VideoGPT, arXiv:2503.21782, section 3.3)."""

import math
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class TokenMLP(nn.Module):
    """An MLP of two layers for each token."""

    def __init__(self, width: int, hidden_size: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, N, width)`` of any dtype to ``(B, N, hidden_size)`` in the dtype of the weights."""
        first = cast(nn.Linear, self.mlp[0])  # nn.Sequential contains modules of any class
        return self.mlp(tokens.to(first.weight.dtype))


class PositionalGenerator(nn.Module):
    """Adds a depthwise convolution of its neighbourhood to each token of a grid."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.peg = nn.Sequential(nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size))

    def forward(self, grid: Tensor) -> Tensor:
        """Add position to ``(B, hidden_size, side, side)``; the shape stays."""
        return grid + self.peg(grid)


class Projector(nn.Module):
    """Efficient token projector: MLP, average pooling, positional generator."""

    def __init__(self, width: int, hidden_size: int, side: int):
        super().__init__()
        self.side = side
        self.mlp = TokenMLP(width, hidden_size)
        self.peg = PositionalGenerator(hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project ``(B, N, width)``, N a square number, to ``(B, side * side, hidden_size)`` in row order.

        A video chunk, 4 frames of 7 x 7 tokens, counts as one grid of 14 x 14, as in the training of the released
        weights.
        """
        edge = math.isqrt(tokens.shape[1])
        grid = self.mlp(tokens).mT.unflatten(-1, (edge, edge))  # (B, hidden_size, edge, edge)
        return self.peg(F.adaptive_avg_pool2d(grid, self.side)).flatten(2).mT
