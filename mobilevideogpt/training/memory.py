"""How much memory a training step takes, from the configuration alone."""

import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from mobilevideogpt.model.configuration import DTYPES, MobileVideoGPTConfig
from mobilevideogpt.training.arguments import Launch, TrainingSettings, faster_ways
from mobilevideogpt.training.batches import recorded_multiple

FIXED_GPU = 0.8e9  # CUDA context and libraries' workspaces, as the driver counts them on an H100
RECORDED = 0.45e9  # what CUDA graphs take beside the memory that they work in
FIXED_CPU = 0.6e9  # Python with torch and transformers
ZERO_BUCKETS = 2 * 50_000_000 * 4  # reduce and gather buckets of config/zero*.json, float32
GATHERED = 100_000_000 * 4  # stage3_max_live_parameters of config/zero3*.json, float32
NF4 = 1 / 2 + 1 / 64  # bytes of a weight, with its share of its block's scale (arXiv:2305.14314, section 3)


class TextTokens(NamedTuple):
    """Tokens of a sample without the video's."""

    prompt: int
    answer: int


def predicted_bytes(
    settings: TrainingSettings,
    base: str | Path,
    text: TextTokens,
    processes: int = 1,
    deepspeed: str | None = None,
    on_gpu: bool = True,
) -> int:
    """Predict the peak memory of a training step on one device.

    With T tokens in a device's batch, b bytes a number, h, i and k the widths of the decoder, of its MLP and of keys or
    values, and r LoRA's rank, it adds up:

    - the frozen language model, b each, half a byte in its linear layers under NF4; 16 bytes each for what is trained:
      float32 weight, gradient, two moments;
    - what a decoder layer keeps for its backward pass with `kernels.fuse`, b T (7 h + 3 i + 2 k + 7 r): what enters and
      leaves its two norms, queries, attention and its copy, keys and values, gate, up and their product, and LoRA's
      r-wide middles; without liger-kernel b T (i + h) more. All layers keep it; with gradient checkpointing one, and
      each layer b T h. On the way back b T (3 i + 3 h) of gradients come to it;
    - with PEFT's own modules b T (15 h + 5 i + 4 k + 7 r), with the inputs again behind LoRA's dropout, and 8 T h for
      two norms in float32;
    - the projectors' activations, b times 4 h for each of the frames' 196 tokens;
    - logits at the answer's positions (more where prompts are of unequal length), over the vocabulary, 10 bytes each
      (with their float32 copy and gradient);
    - LoRA's factors again, b each, and for recorded passes the gradients again and `RECORDED`;
    - under DeepSpeed another 4 bytes for each trained weight, and its buckets; the processes share all but the weights
      (ZeRO-2) or all but the few that are in use (ZeRO-3), and with offloading these alone are on the GPU;
    - a fixed sum for the libraries.

    With ``method: full`` a decoder layer keeps b T (7 h + 4 i + 2 k) and the same norms: no dropout, but a rounded copy
    for each linear layer and, unless it is recomputed, of the weights. What stands between the layers is float32. The
    gradients come as activations and logits go, so the larger of both counts (unless gradients add up over several
    batches): first that of the head, last that of the embeddings, which is then added to it.
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
    full, quantized = settings.method == "full", settings.quantization == "nf4"
    fused, recorded = faster_ways(settings, Launch(processes, deepspeed), "cuda" if on_gpu else "cpu")
    clips = settings.batch_size // processes
    length = default.num_visual_tokens * c.num_frames // default.num_frames + sum(text)
    multiple = recorded_multiple(sum(text)) if recorded else 1
    tokens = clips * multiple * math.ceil(length / multiple)

    language_model = c.vocab_size * h + layers * (2 * h * h + 2 * h * k + 3 * h * i + 2 * h)
    lora = layers * r * ((2 * h) * 2 + 2 * (h + k) + 3 * (h + i))
    projectors = sum(w * h + h * h + 12 * h for w in (c.video_hidden_size, c.image_hidden_size))
    trained = projectors + (language_model if full else lora)
    frozen = 0 if full else b * language_model
    if quantized:
        frozen -= (b - NF4) * layers * (2 * h * h + 2 * h * k + 3 * h * i)
    if full:
        layer = b * tokens * (7 * h + 4 * i + 2 * k) + 8 * tokens * h
    elif fused and not quantized:
        without_liger = 0 if importlib.util.find_spec("liger_kernel") else i + h
        layer = b * tokens * (7 * h + 3 * i + 2 * k + 7 * r + without_liger)
        frozen += b * lora + (4 * trained + RECORDED if recorded else 0)
    else:
        layer = b * tokens * (15 * h + 5 * i + 4 * k + 7 * r) + 8 * tokens * h
    between = (4 if full else b) * tokens * h
    recomputed = layer if settings.gradient_checkpointing else 0
    activations = layers * between if recomputed else layers * layer
    activations += b * clips * 196 * (c.num_frames + c.num_frames // 2) * 4 * h
    if fused and not full and not quantized:
        activations += b * tokens * (3 * i + 3 * h)
    logits = clips * text.answer * c.vocab_size * 10
    if not deepspeed:
        weights, gradients, moments = frozen + 4 * trained, 4 * trained, 8 * trained
    else:  # with the moments, a copy of the weights
        weights, gradients, moments = frozen + 4 * trained, 4 * trained / processes, 12 * trained / processes
        moments += ZERO_BUCKETS
        if deepspeed != "zero2":
            in_use = min(weights, GATHERED + 4 * c.vocab_size * h)  # the embeddings come as a whole
            weights = weights / processes + in_use
            if deepspeed == "zero3_offload" and on_gpu:
                weights, gradients, moments = in_use, 0, ZERO_BUCKETS
    if full:
        embeddings = 4 * c.vocab_size * h
        activations += max(logits, embeddings + recomputed)
        if b < 4 and not recomputed:
            activations += b * language_model
        if settings.gradient_accumulation_steps == 1:
            gradients, activations = max(gradients + embeddings + layer, activations), 0
    else:
        activations += logits + recomputed
    if not on_gpu:
        weights += 4 * trained  # as they were before, kept in main memory to see that all move
    return int(weights + moments + gradients + activations + (FIXED_GPU if on_gpu else FIXED_CPU))
