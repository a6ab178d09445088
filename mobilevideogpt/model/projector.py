"""Projectors from an encoder's tokens to the language model's (Mobile-VideoGPT, arXiv:2503.21782, section 3.3)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class TokenMLP(nn.Module):
    """Two layers, each token by itself."""

    def __init__(self, width: int, hidden_size: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, width)`` of any dtype to ``(B, N, hidden_size)`` in that of the weights."""
        return self.mlp(tokens.to(self.mlp[0].weight.dtype))


class PositionalGenerator(nn.Module):
    """Adds to each token of a grid a depthwise convolution of its neighbourhood."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.peg = nn.Sequential(nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size))

    def forward(self, grid: Tensor) -> Tensor:
        """``(B, hidden_size, side, side)``, shape unchanged."""
        return grid + self.peg(grid)


class Projector(nn.Module):
    """Efficient token projector: widen, pool, tell places apart."""

    def __init__(self, width: int, hidden_size: int, side: int):
        super().__init__()
        self.side = side
        self.mlp = TokenMLP(width, hidden_size)
        self.peg = PositionalGenerator(hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project ``(B, N, width)``, N a square number, to ``(B, side * side, hidden_size)`` in row order.

        A chunk of the video (4 frames of 7 x 7) is read as if it were one 14 x 14 picture; the released weights are
        trained so.
        """
        edge = math.isqrt(tokens.shape[1])
        grid = self.mlp(tokens).mT.unflatten(-1, (edge, edge))  # (B, hidden_size, edge, edge)
        return self.peg(F.adaptive_avg_pool2d(grid, self.side)).flatten(2).mT
