"""CLIP's vision tower (arXiv:2103.00020), which encodes the context images.

Layers are those of transformers. Module names are the keys of the published checkpoints.
"""

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPVisionEmbeddings

from mobilevideogpt.model.configuration import MobileVideoGPTConfig

MAX_IMAGES = 128  # in one forward pass


class ContextTransformer(nn.Module):
    """CLIP's vision transformer without its last layer and norm, which are loaded and saved, but not used."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # as the checkpoints spell it
        # transformers annotates the configuration of both towers, but passes it the one of a tower.
        self.encoder = CLIPEncoder(config)  # pyright: ignore[reportArgumentType]
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode ``(B, 3, H, W)`` standardised images to ``(B, 1 + patches, width)``, class token first."""
        hidden = self.pre_layrnorm(self.embeddings(pixels.to(self.pre_layrnorm.weight.dtype)))
        for layer in self.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        return hidden


class CLIPTower(nn.Module):
    """The level of the checkpoint keys above the transformer."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.vision_model = ContextTransformer(config)


class ImageTower(nn.Module):
    """The level of the checkpoint keys above the tower."""

    def __init__(self, config: MobileVideoGPTConfig):
        super().__init__()
        self.vision_tower = CLIPTower(config.clip_config)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode ``(B, 3, H, W)`` to patch tokens ``(B, patches, width)``, without the class token."""
        parts = [self.vision_tower.vision_model(part)[:, 1:] for part in pixels.split(MAX_IMAGES)]
        return torch.cat(parts)
