"""Configuration of Mobile-VideoGPT (arXiv:2503.21782): Qwen2's fields and the geometry of the two frozen encoders."""

from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPVisionConfig, Qwen2Config

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}  # by the name of a precision
FRAMES_PER_CHUNK = 8  # of which half go to the video encoder
VIDEO_SIDE = 7  # tokens along each edge of a pooled video frame, and of a chunk after the projector
CONTEXT_SIDE = 12  # tokens along each edge of a context image after the projector


@strict
class MobileVideoGPTConfig(Qwen2Config):
    """Fields of the language model as in `Qwen2Config`; the defaults are the released 0.5B model.

    Released checkpoints say nothing of the encoders' geometry; `from_pretrained` reads it from the tensors then.

    Args:
        video_hidden_size: Width of VideoMamba; its inner width is ``video_expand`` times that.
        video_num_layers: Blocks of VideoMamba.
        video_state_size: Size of the state of each inner channel.
        video_conv_kernel: Taps of the causal convolution.
        video_num_frames: Frames of a clip as VideoMamba sees it.
        image_hidden_size: Width of CLIP's vision tower.
        image_intermediate_size: Width of its MLPs.
        image_num_layers: Its layers; the last one is loaded and saved, but not used.
        image_num_heads: Its attention heads.
        image_size: Height and width of the frames in pixels, for both encoders.
        patch_size: Height and width of a patch in pixels, for both encoders.
        num_frames: Video frames and context images of a clip.
        select_highest: Give VideoMamba the frames that receive most attention; the least otherwise.
        video_token_id: The id that stands for a visual token in ``input_ids``.
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
        """Visual tokens of one video: every context image's, then every chunk's."""
        return self.num_frames * CONTEXT_SIDE**2 + self.num_frames // FRAMES_PER_CHUNK * VIDEO_SIDE**2

    @property
    def feature_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shapes of what the encoders say of one clip: ``(chunks, tokens, width)`` and ``(frames, tokens, width)``."""
        chunks = self.num_frames // FRAMES_PER_CHUNK
        return {
            "video_features": (chunks, self.video_num_frames // chunks * VIDEO_SIDE**2, self.video_hidden_size),
            "context_features": (self.num_frames, (self.image_size // self.patch_size) ** 2, self.image_hidden_size),
        }

    @property
    def clip_config(self) -> CLIPVisionConfig:
        """The context encoder as transformers describes it."""
        config = CLIPVisionConfig(
            hidden_size=self.image_hidden_size,
            intermediate_size=self.image_intermediate_size,
            num_hidden_layers=self.image_num_layers,
            num_attention_heads=self.image_num_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
        )
        config._attn_implementation = "sdpa"  # always in float32, so never flash attention
        return config


AutoConfig.register(MobileVideoGPTConfig.model_type, MobileVideoGPTConfig)
