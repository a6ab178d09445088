"""How much memory a training step takes, from the configuration alone."""

import json
from pathlib import Path
from types import SimpleNamespace

from mobilevideogpt.model.configuration import DTYPES, MobileVideoGPTConfig
from mobilevideogpt.training.arguments import TrainingSettings

FIXED_GPU = 0.6e9  # CUDA context and libraries' workspaces
FIXED_CPU = 0.6e9  # Python with torch and transformers
ZERO_BUCKETS = 2 * 50_000_000 * 4  # reduce and gather buckets of config/zero*.json, float32


def predicted_bytes(
    settings: TrainingSettings,
    base: str | Path,
    text_tokens: int,
    processes: int = 1,
    deepspeed: bool = False,
    on_gpu: bool = True,
) -> int:
    """Predict the peak memory of a training step on one device.

    With T tokens in a device's batch, b bytes a number, h, i and k the widths of the decoder, of its MLP and of keys or
    values, and r LoRA's rank, it adds up:

    - the frozen language model, b each; 16 bytes each for what is trained: float32 weight, gradient, two moments;
    - what a decoder layer keeps for its backward pass, b T (15 h + 5 i + 4 k + 7 r): the inputs of seven linear layers,
      each again behind LoRA's dropout, LoRA's r-wide middle, queries, keys, values, gate, up and their product; and
      8 T h for two norms in float32. All layers keep it; with gradient checkpointing one, and each layer b T h;
    - the projectors' activations, b times 4 h for each of the frames' 196 tokens;
    - logits at 64 positions of each clip, over the vocabulary, 10 bytes each (with their float32 copy and gradient);
    - under DeepSpeed another 4 bytes for each trained weight, and its buckets;
    - a fixed sum for the libraries.
    """
    config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    default = MobileVideoGPTConfig()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    names += ("vocab_size", "num_frames", "video_hidden_size", "image_hidden_size")
    c = SimpleNamespace(**{name: config.get(name) or getattr(default, name) for name in names})
    b, h, i, layers, r = (
        DTYPES[settings.precision].itemsize,
        c.hidden_size,
        c.intermediate_size,
        c.num_hidden_layers,
        settings.lora_r,
    )
    k = h // c.num_attention_heads * c.num_key_value_heads
    clips = settings.batch_size // processes
    tokens = clips * (default.num_visual_tokens * c.num_frames // default.num_frames + text_tokens)

    language_model = c.vocab_size * h + layers * (2 * h * h + 2 * h * k + 3 * h * i + 2 * h)
    lora = layers * r * ((2 * h) * 2 + 2 * (h + k) + 3 * (h + i))
    projectors = sum(w * h + h * h + 12 * h for w in (c.video_hidden_size, c.image_hidden_size))
    layer = b * tokens * (15 * h + 5 * i + 4 * k + 7 * r) + 8 * tokens * h
    activations = layer + layers * b * tokens * h if settings.gradient_checkpointing else layers * layer
    images = clips * 196 * (c.num_frames + c.num_frames // 2)
    total = b * language_model + 16 * (lora + projectors) + activations + b * images * 4 * h
    total += clips * 64 * c.vocab_size * 10
    if deepspeed:
        total += 4 * (lora + projectors) + ZERO_BUCKETS
    return int(total + (FIXED_GPU if on_gpu else FIXED_CPU))
