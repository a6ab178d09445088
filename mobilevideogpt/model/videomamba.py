"""VideoMamba (arXiv:2403.06977), the video encoder: blocks of bidirectional Mamba over the patches of all frames.

Module names are the keys of the published checkpoints. Shapes: B clips, T frames, L tokens, W width, D inner width.
The residual stream, the norms and the state of the scan are float32 for weights of any dtype. There is no drop path.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.kernels.backends import inference_convolution
from mobilevideogpt.model.kernels.scan import selective_scan

NORM_EPS = 1e-5
CLIP_WIDTH = 512  # of the alignment head in the checkpoints


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Scale the last axis to a root mean square of 1; the result has ``dtype``, or that of ``x`` if None."""
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), NORM_EPS).to(dtype or x.dtype)


class Convolution(nn.Conv1d):
    """Convolves each channel along the sequence, then applies SiLU; the last tap weighs the token itself."""

    def __init__(self, inner: int, kernel: int):
        super().__init__(inner, inner, kernel, groups=inner)

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor:
        """Convolve ``(B, L, D)``; a token sees itself and the tokens before it, or after it in reverse."""
        needs_grad = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not needs_grad and (kernel := inference_convolution(x.device.type)):
            return kernel(x, self.weight, self.bias, reverse)
        padding, weight = self.kernel_size[0] - 1, self.weight
        padded = F.pad(x.mT, (0, padding) if reverse else (padding, 0))
        return F.silu(F.conv1d(padded, weight.flip(-1) if reverse else weight, self.bias, groups=len(weight)).mT)


class StepProjection(nn.Module):
    """A linear layer without its bias, which the scan adds in float32."""

    def __init__(self, dt_rank: int, inner: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inner, dt_rank))
        self.bias = nn.Parameter(torch.empty(inner))

    def forward(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Project ``(B, L, R)`` to ``(B, L, D)``, and return the bias ``(D,)`` in float32 beside it."""
        return F.linear(dt, self.weight), self.bias.float()


class Mixer(nn.Module):
    """Mamba in both directions of the sequence, with separate weights; both share the outer projections."""

    def __init__(self, width: int, n_states: int, kernel: int, expand: int):
        super().__init__()
        inner = expand * width
        self.n_states = n_states
        self.dt_rank = math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = Convolution(inner, kernel)
        self.conv1d_b = Convolution(inner, kernel)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * n_states, bias=False)
        self.x_proj_b = nn.Linear(inner, self.dt_rank + 2 * n_states, bias=False)
        self.dt_proj = StepProjection(self.dt_rank, inner)
        self.dt_proj_b = StepProjection(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, n_states))
        self.A_b_log = nn.Parameter(torch.empty(inner, n_states))
        self.D = nn.Parameter(torch.empty(inner))
        self.D_b = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix ``(B, L, W)`` along L."""
        x, z = self.in_proj(hidden).chunk(2, dim=-1)  # (B, L, D) each
        return self.out_proj(self.forward_branch(x, z) + self.backward_branch(x, z))

    def forward_branch(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``(B, L, D)``, where a token sees the tokens before it."""
        return self._branch(x, z, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)

    def backward_branch(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``(B, L, D)``, where a token sees the tokens after it."""
        weights = (self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        return self._branch(x, z, *weights, reverse=True)

    def _branch(self, x, z, conv1d, x_proj, dt_proj, A_log, D, reverse=False):
        u = conv1d(x, reverse).mT  # (B, D, L)
        dt, B, C = x_proj(u.mT).split((self.dt_rank, self.n_states, self.n_states), dim=-1)
        delta, bias = dt_proj(dt)  # (B, L, D), (D,)
        A = -torch.exp(A_log.float())
        return selective_scan(u, delta.mT, A, B.mT, C.mT, D.float(), z.mT, bias, reverse=reverse).mT


class Block(nn.Module):
    """Residual addition, norm, mixer."""

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__()
        self.norm = RMSNorm(config.video_hidden_size)
        self.mixer = Mixer(
            config.video_hidden_size, config.video_state_size, config.video_conv_kernel, config.video_expand
        )

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the mixer's output and the residual stream, float32, before their addition, both ``(B, L, W)``."""
        residual = hidden.float() if residual is None else hidden + residual
        return self.mixer(self.norm(residual, hidden.dtype)), residual


class PatchEmbed(nn.Module):
    """Embedding of the patches of each frame."""

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__()
        size = (1, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.video_hidden_size, size, stride=size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed ``(B, T, 3, H, W)`` to ``(B, T, patches, width)``, patches row by row."""
        return self.proj(pixels.transpose(1, 2).to(self.proj.weight.dtype)).flatten(3).permute(0, 2, 3, 1)


class AlignmentHead(nn.Module):
    """A part of the checkpoints that is loaded and saved, but not used."""

    def __init__(self, width: int):
        super().__init__()
        self.head = nn.Linear(width, CLIP_WIDTH)
        self.norm = nn.LayerNorm(CLIP_WIDTH)


class VideoMamba(nn.Module):
    """The encoder; its sequence is a class token and all patches of all frames."""

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__()
        width, patches = config.video_hidden_size, config.num_patches
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, patches + 1, width))
        self.temporal_pos_embedding = nn.Parameter(torch.empty(1, config.video_num_frames, width))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.video_num_layers))
        self.norm = RMSNorm(width)
        self.clip_decoder = nn.ModuleList([AlignmentHead(width)])

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the first block's input, ``(B, 1 + T * patches, W)``; a single frame has no temporal position."""
        patches = self.patch_embed(pixels) + self.pos_embed[:, 1:]  # (B, T, patches, W)
        if pixels.shape[1] > 1:
            patches = patches + self.temporal_pos_embedding[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(pixels), -1, -1)
        return torch.cat([first, patches.flatten(1, 2)], dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode ``(B, T, 3, H, W)`` standardised frames to ``(B, 1 + T * patches, W)``, class token first."""
        hidden, residual = self.embed(pixels), None
        for block in self.layers:
            hidden, residual = block(hidden, residual)
        assert residual is not None  # there is at least one block
        return self.norm(hidden + residual, hidden.dtype)


class VideoTower(nn.Module):
    """The level of the checkpoint keys above VideoMamba."""

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__()
        self.vision_encoder = VideoMamba(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patch tokens, ``(B, T, patches, W)``, without the class token."""
        return self.vision_encoder(pixels)[:, 1:].unflatten(1, (pixels.shape[1], -1))


@torch.no_grad()
def init_mixer(mixer: Mixer) -> None:
    """Initialise as Mamba does: states decay at 1...N, steps are log-uniform in 0.001...0.1, the rest is PyTorch's."""
    for module in (mixer.in_proj, mixer.conv1d, mixer.conv1d_b, mixer.x_proj, mixer.x_proj_b, mixer.out_proj):
        module.reset_parameters()
    for A_log in (mixer.A_log, mixer.A_b_log):
        init.copy_(A_log, torch.arange(1, mixer.n_states + 1).log().expand_as(A_log))
    for D in (mixer.D, mixer.D_b):
        init.ones_(D)
    for dt_proj in (mixer.dt_proj, mixer.dt_proj_b):
        init.uniform_(dt_proj.weight, -(mixer.dt_rank**-0.5), mixer.dt_rank**-0.5)
        step = torch.empty_like(dt_proj.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp_()
        init.copy_(dt_proj.bias, step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
