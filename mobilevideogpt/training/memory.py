"""Predict the peak memory of a training step from the configuration alone.

In the formulas, T is the number of tokens in a device's batch, b the bytes of a number in the chosen precision, h, i
and k are the widths of the decoder, of its MLP and of its keys and values, and r is LoRA's rank.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mobilevideogpt.annotations.samples import prompt_and_response
from mobilevideogpt.data.prompts import IGNORED
from mobilevideogpt.files import read_json
from mobilevideogpt.model.checkpoint import explained
from mobilevideogpt.model.configuration import DTYPES, MobileVideoGPTConfig
from mobilevideogpt.model.foreign import REMEDY, check_base_config
from mobilevideogpt.model.kernels.backends import lora_kernels_support
from mobilevideogpt.training.plan import Launch, Optimisations, length_multiple, supported_optimisations
from mobilevideogpt.training.settings import TrainingSettings

# As the driver counts them. CUDA's context with the libraries' workspaces, on an H100 (`benchmarks/memory.py`); what
# CUDA graphs need beside the memory of their tensors, on an H200 (`benchmarks/training.py`).
FIXED_GPU, CUDA_GRAPHS = 0.8e9, 1.7e9
NCCL = 0.93e9  # kernels and buffers, under DeepSpeed also in a single process
FIXED_CPU = 0.6e9  # Python with torch and transformers
ZERO_BUCKETS = 2 * 50_000_000 * 4  # reduce and gather buckets of config/zero*.json, float32
GATHERED = 100_000_000 * 4  # stage3_max_live_parameters of config/zero3*.json, float32
NF4 = 1 / 2 + 1 / 64  # bytes of a weight, with its share of its block's scale (arXiv:2305.14314, section 3)
FLOAT32 = 4  # bytes
LOGIT = 10  # bytes of a logit with its float32 copy and gradient
# Fields of config.json that affect memory, and the token ids, which the configuration checks against the vocabulary.
_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "num_frames", "video_hidden_size", "image_hidden_size", "image_size", "patch_size"),
    *("bos_token_id", "eos_token_id", "video_token_id"),
)


class TextTokens(NamedTuple):
    """Tokens of a sample without the video's."""

    prompt: int
    answer: int


def text_lengths(samples: Sequence[dict], processor: Any) -> list[int]:
    """Return the number of tokens of each sample without the video's."""
    return [
        len(processor.encode_text(*prompt_and_response(sample), num_visual_tokens=0)["input_ids"]) for sample in samples
    ]


def longest_text(
    samples: Sequence[dict], processor: Any, max_text_tokens: int, lengths: Sequence[int] | None = None
) -> tuple[dict, TextTokens]:
    """Return the sample with the longest text, and the number of its tokens that training sees.

    Args:
        samples: At least one.
        processor: That of the base.
        max_text_tokens: As in the settings.
        lengths: `text_lengths`, if they are known.
    """
    lengths = lengths or text_lengths(samples, processor)
    longest = samples[max(range(len(samples)), key=lengths.__getitem__)]
    labels = processor.encode_text(*prompt_and_response(longest), num_visual_tokens=0)["labels"]
    prompt = labels.count(IGNORED)
    return longest, TextTokens(prompt, max(0, min(len(labels) - prompt, max_text_tokens - prompt)))


def shortest_text(samples: Sequence[dict], processor: Any, lengths: Sequence[int] | None = None) -> tuple[dict, int]:
    """Return the sample with the shortest text, and the number of its tokens with the video's; as `longest_text`."""
    lengths = lengths or text_lengths(samples, processor)
    shortest = min(range(len(samples)), key=lengths.__getitem__)
    return samples[shortest], lengths[shortest] + processor.num_visual_tokens


@dataclass(frozen=True)
class Step:
    """One training step on one device: everything that affects its memory.

    Attributes:
        settings: With a number for ``batch_size``, unless `micro_batch.choose_micro_batch` is to choose it.
        launch: The processes, and DeepSpeed.
        base: Folder of the base checkpoint.
        text: Tokens of the longest sample.
        on_gpu: Whether the device is a GPU.
    """

    settings: TrainingSettings
    launch: Launch
    base: str | Path
    text: TextTokens
    on_gpu: bool

    def with_settings(self, **changes: Any) -> "Step":
        """Return the step with other settings."""
        return replace(self, settings=replace(self.settings, **changes))

    def with_micro_batch(self, clips: int) -> "Step":
        """Return a step of the same result, with ``clips`` in a forward pass of each process."""
        return replace(self, settings=self.settings.with_micro_batch(clips, self.launch.processes))

    @property
    def micro_batch(self) -> int:
        """Clips of a forward pass in each process."""
        return self.settings.micro_batch(self.launch.processes)

    @cached_property
    def config(self) -> MobileVideoGPTConfig:
        """The configuration of the base; fields that its config.json lacks have the released values."""
        path = Path(self.base, "config.json")
        values = read_json(path, REMEDY, shape=dict)
        check_base_config(values, path)
        with explained(path):
            return MobileVideoGPTConfig(**{name: values[name] for name in _FIELDS if name in values})

    @property
    def optimisations(self) -> Optimisations:
        """The supported optimisations."""
        return supported_optimisations(self.settings, self.launch, "cuda" if self.on_gpu else "cpu")

    @property
    def number_bytes(self) -> int:
        """b: bytes of a number in the chosen precision."""
        return DTYPES[self.settings.precision].itemsize

    @property
    def kv_width(self) -> int:
        """k: width of keys and of values."""
        heads = self.config.num_attention_heads
        return self.config.hidden_size // heads * (self.config.num_key_value_heads or heads)

    @property
    def tokens(self) -> int:
        """T: tokens of a forward pass, with padding."""
        multiple = length_multiple(sum(self.text)) if self.optimisations.cuda_graphs else 1
        return self.micro_batch * multiple * math.ceil((self.config.num_visual_tokens + sum(self.text)) / multiple)

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the embeddings in float32."""
        return FLOAT32 * self.config.vocab_size * self.config.hidden_size


def predicted_bytes(step: Step) -> int:
    """Predict the peak memory of a training step.

    The sum of weights, gradients, the optimizer's moments, activations, and a fixed sum for the libraries, and for NCCL
    under DeepSpeed or with several processes.
    """
    parameters = _count_parameters(step)
    weights, gradients, moments = _state_bytes(step, parameters)
    if not step.on_gpu:
        weights += FLOAT32 * parameters.trained  # a copy, to check after training that every weight has moved
    uses_nccl = step.launch.deepspeed or step.launch.processes > 1
    fixed = FIXED_GPU + (NCCL if uses_nccl else 0) if step.on_gpu else FIXED_CPU
    peak = _peak_full if step.settings.method == "full" else _peak_lora
    return int(weights + moments + peak(step, parameters, gradients) + fixed)


class _Parameters(NamedTuple):
    """Numbers of parameters; ``linear`` are those of the decoder's linear layers."""

    linear: int
    language_model: int
    lora: int
    trained: int


def _count_parameters(step: Step) -> _Parameters:
    c, k = step.config, step.kv_width
    h, i, layers = c.hidden_size, c.intermediate_size, c.num_hidden_layers
    linear = layers * (2 * h * h + 2 * h * k + 3 * h * i)
    language_model = c.vocab_size * h + linear + layers * 2 * h
    lora = layers * step.settings.lora_r * ((2 * h) * 2 + 2 * (h + k) + 3 * (h + i))
    projectors = sum(width * h + h * h + 12 * h for width in (c.video_hidden_size, c.image_hidden_size))
    trained = projectors + (language_model if step.settings.method == "full" else lora)
    return _Parameters(linear, language_model, lora, trained)


def _frozen_bytes(step: Step, parameters: _Parameters) -> float:
    """Return the bytes of the frozen weights and of copies that optimisations keep.

    The language model has b bytes a weight, `NF4` in quantized linear layers. Fused kernels keep LoRA's factors again
    in b bytes, and CUDA graphs keep the gradients again, with `CUDA_GRAPHS`.
    """
    b, settings = step.number_bytes, step.settings
    frozen = 0 if settings.method == "full" else b * parameters.language_model
    if settings.quantization == "nf4":
        frozen -= (b - NF4) * parameters.linear
    elif settings.method == "lora" and step.optimisations.fused:
        frozen += b * parameters.lora
    if step.optimisations.cuda_graphs:
        frozen += FLOAT32 * parameters.trained + CUDA_GRAPHS
    return frozen


def _state_bytes(step: Step, parameters: _Parameters) -> tuple[float, float, float]:
    """Return the bytes of weights, gradients and moments on a device.

    A trained parameter has 16 bytes: float32 weight, gradient and two moments. DDP's buckets are the gradients, but a
    replay of CUDA graphs adds to gradients of its own, which DDP then copies. DeepSpeed keeps a copy of the weight,
    and its buckets. Under ZeRO-2 the processes share all but the weights, under ZeRO-3 all but the few weights in use;
    with offloading only these are on the GPU. Where ZeRO-3 trains the language model without checkpointing, these count
    twice, as no other stream gets the memory of the one that gathers, and the embeddings' gradient is whole at first.
    """
    stage, processes = step.launch.deepspeed, step.launch.processes
    trained = FLOAT32 * parameters.trained
    weights, gradients = _frozen_bytes(step, parameters) + trained, trained
    if not stage:
        copied = trained if processes > 1 and step.optimisations.cuda_graphs else 0
        return weights, gradients + copied, 2 * trained
    moments = 3 * trained / processes + ZERO_BUCKETS
    if stage == "zero2":
        return weights, gradients / processes, moments
    in_use = min(weights, GATHERED + step.embedding_bytes)  # the embeddings are gathered as a whole
    if step.settings.method == "full" and step.on_gpu and not step.settings.gradient_checkpointing:
        in_use = 2 * in_use + step.embedding_bytes
    if stage == "zero3_offload" and step.on_gpu:
        return in_use, 0, ZERO_BUCKETS
    return weights / processes + in_use, gradients / processes, moments


def _peak_lora(step: Step, parameters: _Parameters, gradients: float) -> float:
    """Return the peak of gradients and activations where LoRA is trained.

    Every layer keeps its activations. With gradient checkpointing one layer does, and each keeps its input, b T h.
    """
    layer, backward = _lora_layer_bytes(step)
    checkpointing = step.settings.gradient_checkpointing
    kept = step.config.num_hidden_layers * (step.number_bytes * _hidden(step) if checkpointing else layer)
    recomputed = layer if checkpointing else 0
    return gradients + kept + recomputed + backward + _projector_bytes(step) + _logit_bytes(step)


def _lora_layer_bytes(step: Step) -> tuple[int, int]:
    """Return the activations that a decoder layer keeps for the backward pass, and what one layer adds in that pass.

    With fused kernels b T (4 h + 2 i + 2 k + 7 r): the inputs of both norms, queries, attention, keys and values, gate
    and up, and the r-wide products of LoRA, whose rank is padded to a power of two; and dropout's masks, T (6 h + i),
    unless the kernels draw them. The backward pass adds gradients and the inputs of products, b T (3 i + 3 h).

    With PEFT's modules b T (5 h + 4 i + 4 k + 7 r), 8 T h for both norms in float32, and 5 T (6 h + i) for the inputs
    after LoRA's dropout in float32, with its masks.
    """
    settings, b, tokens, k, r = step.settings, step.number_bytes, step.tokens, step.kv_width, step.settings.lora_r
    h, i = step.config.hidden_size, step.config.intermediate_size
    if not step.optimisations.fused or settings.quantization == "nf4":
        return b * tokens * (5 * h + 4 * i + 4 * k + 7 * r) + 8 * tokens * h + 5 * tokens * (6 * h + i), 0
    masks = 0 if lora_kernels_support(DTYPES[settings.precision], r) else tokens * (6 * h + i)
    rank = max(16, 1 << (r - 1).bit_length())
    layer = b * tokens * (4 * h + 2 * i + 2 * k + 7 * rank) + masks
    return layer, b * tokens * (3 * i + 3 * h)


def _peak_full(step: Step, parameters: _Parameters, gradients: float) -> float:
    """Return the peak of gradients and activations where the whole language model is trained.

    A decoder layer keeps b T (7 h + 4 i + 2 k), and 8 T h for both norms: no dropout, but a rounded copy of the input
    of each linear layer and, without checkpointing, of the weights. Activations between layers are float32. The
    gradients grow while activations and logits are freed. So the larger of both counts, unless gradients accumulate
    over batches or are DDP's buckets: first that of the head, last that of the embeddings, which is then added to it.
    """
    c, b, checkpointing = step.config, step.number_bytes, step.settings.gradient_checkpointing
    layer_widths = 7 * c.hidden_size + 4 * c.intermediate_size + 2 * step.kv_width
    layer = b * step.tokens * layer_widths + 8 * _hidden(step)
    activations = c.num_hidden_layers * (FLOAT32 * _hidden(step) if checkpointing else layer) + _projector_bytes(step)
    activations += max(_logit_bytes(step), step.embedding_bytes + (layer if checkpointing else 0))
    if b < FLOAT32 and not checkpointing:
        activations += b * parameters.language_model
    buckets = step.launch.processes > 1 and not step.launch.deepspeed
    if buckets or step.settings.gradient_accumulation_steps > 1:
        return gradients + activations
    return max(gradients + step.embedding_bytes + layer, activations)


def _hidden(step: Step) -> int:
    """Numbers of one hidden state, T h."""
    return step.tokens * step.config.hidden_size


def _projector_bytes(step: Step) -> int:
    """Return the bytes of the projectors' activations: b times 4 h for each patch of each frame."""
    frames = step.config.num_frames + step.config.num_frames // 2
    return step.number_bytes * step.micro_batch * step.config.num_patches * frames * 4 * step.config.hidden_size


def _logit_bytes(step: Step) -> int:
    """Return the bytes of the logits at the answer's positions; prompts of unequal length need more."""
    return step.micro_batch * step.text.answer * step.config.vocab_size * LOGIT
