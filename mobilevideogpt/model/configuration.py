"""Configuration of Mobile-VideoGPT (arXiv:2503.21782): Qwen2's fields and the geometry of the two frozen encoders."""

from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPVisionConfig, Qwen2Config

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}  # by the setting `precision`
FRAMES_PER_CHUNK = 8  # the video encoder receives half of them
VIDEO_SIDE = 7  # tokens along each edge of a pooled video frame, and of a projected chunk
CONTEXT_SIDE = 12  # tokens along each edge of a projected context image


def count_visual_tokens(num_frames: int) -> int:
    """Count the visual tokens of a video: those of each context image, then those of each chunk."""
    return num_frames * CONTEXT_SIDE**2 + num_frames // FRAMES_PER_CHUNK * VIDEO_SIDE**2


@strict
class MobileVideoGPTConfig(Qwen2Config):
    """Fields of the language model as in `Qwen2Config`; the defaults describe the released 0.5B model.

    A released ``config.json`` has no fields for the geometry of the encoders. `from_pretrained` then reads it from the
    tensors.

    Args:
        video_hidden_size: Width of VideoMamba; its inner width is ``video_expand`` times that.
        video_num_layers: Blocks of VideoMamba.
        video_state_size: States of each inner channel.
        video_conv_kernel: Taps of the causal convolution.
        video_num_frames: Frames of a clip that VideoMamba receives.
        image_hidden_size: Width of CLIP's vision tower.
        image_intermediate_size: Width of the MLPs of CLIP.
        image_num_layers: Layers of CLIP; the last one is loaded and saved, but not used.
        image_num_heads: Attention heads of CLIP.
        image_size: Height and width of the frames in pixels, for both encoders.
        patch_size: Height and width of a patch in pixels, for both encoders.
        num_frames: Video frames and context images of a clip.
        select_highest: Give VideoMamba the frames with the highest attention scores; otherwise the lowest.
        video_token_id: Placeholder id of a visual token in ``input_ids``.
    """

    model_type = "MobileVideoGPT_qwen"
    default_theta: ClassVar[float] = 1000000.0

    vocab_size: int = 151936
    hidden_size: int = 896
    intermediate_size: int = 4864
    num_hidden_layers: int = 24
    num_attention_heads: int = 14
    num_key_value_heads: int | None = 2
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 151643
    eos_token_id: int | list[int] | None = 151645
    video_hidden_size: int = 576
    video_num_layers: int = 32
    video_state_size: int = 16
    video_conv_kernel: int = 4
    video_expand: int = 2
    video_num_frames: int = 8
    image_hidden_size: int = 768
    image_intermediate_size: int = 3072
    image_num_layers: int = 12
    image_num_heads: int = 12
    image_size: int = 224
    patch_size: int = 16
    num_frames: int = 16
    select_highest: bool = True
    video_token_id: int = 151656

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens of one video."""
        return count_visual_tokens(self.num_frames)

    @property
    def patches_per_side(self) -> int:
        """Patches along each edge of a frame, for both encoders."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of a frame, for both encoders."""
        return self.patches_per_side**2

    @property
    def feature_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shapes of the features of one clip: ``(chunks, tokens, width)`` and ``(frames, tokens, width)``."""
        chunks = self.num_frames // FRAMES_PER_CHUNK
        return {
            "video_features": (chunks, self.video_num_frames // chunks * VIDEO_SIDE**2, self.video_hidden_size),
            "context_features": (self.num_frames, self.num_patches, self.image_hidden_size),
        }

    @property
    def clip_config(self) -> CLIPVisionConfig:
        """Configuration of the context encoder in transformers' terms."""
        config = CLIPVisionConfig(
            hidden_size=self.image_hidden_size,
            intermediate_size=self.image_intermediate_size,
            num_hidden_layers=self.image_num_layers,
            num_attention_heads=self.image_num_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
        )
        config._attn_implementation = "sdpa"  # the encoder is float32, which flash attention does not support
        return config


AutoConfig.register(MobileVideoGPTConfig.model_type, MobileVideoGPTConfig)
