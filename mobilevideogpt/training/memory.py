"""How much memory a training step takes, from the configuration alone."""

import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from mobilevideogpt.model.configuration import DTYPES, MobileVideoGPTConfig
from mobilevideogpt.model.kernels.lora import kernels_support
from mobilevideogpt.training.batches import length_multiple
from mobilevideogpt.training.plan import Launch, supported_optimisations
from mobilevideogpt.training.settings import TrainingSettings

# Found on an H100 by `benchmarks/memory.py`: CUDA's context with the libraries' workspaces, as the driver counts them,
# and what CUDA graphs take beside the memory that they work in.
FIXED_GPU, CUDA_GRAPHS = 0.8e9, 0.45e9
NCCL = 0.93e9  # its kernels and buffers, under DeepSpeed in a single process, too
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
    - what a decoder layer keeps for its backward pass with `fused.fuse`, b T (7 h + 3 i + 2 k + 7 r): what enters and
      leaves its two norms, queries, attention and its copy, keys and values, gate, up and their product, and LoRA's
      r-wide middles; without liger-kernel b T (i + h) more; where dropout is not drawn inside of kernels, its masks,
      T (6 h + i) bytes. All layers keep it; with gradient checkpointing one, and
      each layer b T h. On the way back b T (3 i + 3 h) of gradients come to it;
    - with PEFT's own modules b T (5 h + 4 i + 4 k + 7 r), 8 T h for two norms in float32, and 5 T (6 h + i) for the
      inputs again behind LoRA's dropout, float32, with its masks;
    - the projectors' activations, b times 4 h for each of the frames' 196 tokens;
    - logits at the answer's positions (more where prompts are of unequal length), over the vocabulary, 10 bytes each
      (with their float32 copy and gradient);
    - LoRA's factors again, b each, and for captured CUDA graphs the gradients again and `CUDA_GRAPHS`;
    - under DeepSpeed another 4 bytes for each trained weight, and its buckets; the processes share all but the weights
      (ZeRO-2) or all but the few that are in use (ZeRO-3), and with offloading these alone are on the GPU;
    - a fixed sum for the libraries, and for NCCL under DeepSpeed or with several processes.

    With ``method: full`` a decoder layer keeps b T (7 h + 4 i + 2 k) and the same norms: no dropout, but a rounded copy
    for each linear layer and, unless it is recomputed, of the weights. What stands between the layers is float32. The
    gradients come as activations and logits go, so the larger of both counts (unless gradients add up over several
    batches): first that of the head, last that of the embeddings, which is then added to it.
    """
    g = _geometry(base)
    b, h, i, r = DTYPES[settings.precision].itemsize, g.hidden_size, g.intermediate_size, settings.lora_r
    full, quantized, again = settings.method == "full", settings.quantization == "nf4", settings.gradient_checkpointing
    fused, captured = supported_optimisations(settings, Launch(processes, deepspeed), "cuda" if on_gpu else "cpu")
    multiple = length_multiple(sum(text)) if captured else 1
    clips = settings.batch_size // processes
    tokens = clips * multiple * math.ceil((g.visual_tokens + sum(text)) / multiple)

    products = g.layers * (2 * h * h + 2 * h * g.kv + 3 * h * i)  # weights of the decoder's linear layers
    language_model = g.vocab_size * h + products + g.layers * 2 * h
    lora = g.layers * r * ((2 * h) * 2 + 2 * (h + g.kv) + 3 * (h + i))
    projectors = sum(w * h + h * h + 12 * h for w in (g.video_hidden_size, g.image_hidden_size))
    trained = projectors + (language_model if full else lora)
    frozen = 0 if full else b * language_model
    on_the_way_back = 0
    if full:
        layer = b * tokens * (7 * h + 4 * i + 2 * g.kv) + 8 * tokens * h
    elif fused and not quantized:
        without_liger = 0 if importlib.util.find_spec("liger_kernel") else i + h
        layer = b * tokens * (7 * h + 3 * i + 2 * g.kv + 7 * r + without_liger)
        layer += 0 if kernels_support(DTYPES[settings.precision], r) else tokens * (6 * h + i)
        on_the_way_back = b * tokens * (3 * i + 3 * h)
        frozen += b * lora
    else:
        layer = b * tokens * (5 * h + 4 * i + 4 * g.kv + 7 * r) + 8 * tokens * h + 5 * tokens * (6 * h + i)
    frozen -= (b - NF4) * products if quantized else 0
    frozen += 4 * trained + CUDA_GRAPHS if captured else 0

    kept = g.layers * ((4 if full else b) * tokens * h if again else layer)
    activations = kept + on_the_way_back + b * clips * 196 * (g.num_frames + g.num_frames // 2) * 4 * h
    logits = clips * text.answer * g.vocab_size * 10
    embeddings = 4 * g.vocab_size * h
    weights, gradients, moments = _states(frozen, trained, embeddings, processes, deepspeed, on_gpu)
    if not full:
        activations += logits + (layer if again else 0)
    else:
        activations += max(logits, embeddings + (layer if again else 0))
        if b < 4 and not again:
            activations += b * language_model
        if settings.gradient_accumulation_steps == 1:
            gradients, activations = max(gradients + embeddings + layer, activations), 0
    if not on_gpu:
        weights += 4 * trained  # as they were before, kept in main memory to see that all move
    fixed = FIXED_GPU + (NCCL if deepspeed or processes > 1 else 0) if on_gpu else FIXED_CPU
    return int(weights + moments + gradients + activations + fixed)


def _geometry(base: str | Path) -> SimpleNamespace:
    """The sizes of a checkpoint that matter here, the released ones where it names none."""
    config = json.loads((Path(base) / "config.json").read_text(encoding="utf-8"))
    default = MobileVideoGPTConfig()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    names += ("vocab_size", "num_frames", "video_hidden_size", "image_hidden_size")
    g = SimpleNamespace(**{name: config.get(name) or getattr(default, name) for name in names})
    g.layers, g.kv = g.num_hidden_layers, g.hidden_size // g.num_attention_heads * g.num_key_value_heads
    g.visual_tokens = default.num_visual_tokens * g.num_frames // default.num_frames
    return g


def _states(
    frozen: float, trained: int, embeddings: int, processes: int, deepspeed: str | None, on_gpu: bool
) -> tuple[float, float, float]:
    """Bytes of weights, gradients and moments on a device; ``frozen`` and ``embeddings`` are bytes, too."""
    weights, gradients = frozen + 4 * trained, 4 * trained
    if not deepspeed:
        return weights, gradients, 8 * trained
    moments = 12 * trained / processes + ZERO_BUCKETS  # with a copy of the weights
    if deepspeed == "zero2":
        return weights, gradients / processes, moments
    in_use = min(weights, GATHERED + embeddings)  # the embeddings come as a whole
    if deepspeed == "zero3_offload" and on_gpu:
        return in_use, 0, ZERO_BUCKETS
    return weights / processes + in_use, gradients / processes, moments
