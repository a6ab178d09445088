"""Faster ways to compute the same training step on a GPU: fused layers, and passes recorded as CUDA graphs.

A step of the 0.5B model is thousands of small kernels; a CPU takes longer to launch them than the GPU to run them. So
the passes through projectors and decoder are recorded once for each shape and replayed. Nothing here changes a formula:
results differ by rounding, and by which elements dropout draws.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from mobilevideogpt.model.lora import FusedLora

logger = logging.getLogger(__name__)

SHAPES = 4  # recorded, at most; other shapes run as ever


def fuse(model: PeftModel | nn.Module) -> None:
    """Let ``model`` compute LoRA (if any), norms and, with liger-kernel, SwiGLU and RoPE in fewer kernels, in place."""
    _fuse_lora(model)
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = _Norm(module)
    try:
        from liger_kernel.ops import LigerSiLUMulFunction
        from liger_kernel.transformers.rope import liger_rotary_pos_emb
    except ImportError:
        logger.info("liger-kernel is not installed; with it, training is a little faster")
        return
    for module in model.modules():
        if isinstance(module, Qwen2MLP):
            module.forward = _SwiGLU(module, LigerSiLUMulFunction)
    modeling_qwen2.apply_rotary_pos_emb = liger_rotary_pos_emb


def _fuse_lora(model: PeftModel) -> None:
    lora = FusedLora(model)
    if not lora.layers:  # all of the language model is trained, or it is quantized
        return
    decoder = model.get_base_model().model
    forward = decoder.forward

    def refreshed(*args, **kwargs):
        if decoder.training and torch.is_grad_enabled():
            lora.refresh()
        return forward(*args, **kwargs)

    decoder.forward = refreshed


class _Norm:
    """RMSNorm in one kernel, float32 inside as Qwen2's."""

    def __init__(self, module: Qwen2RMSNorm):
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.module.weight
        return F.rms_norm(x, weight.shape, weight, self.module.variance_epsilon).to(x.dtype)


class _SwiGLU:
    """The MLP with its gate in one kernel."""

    def __init__(self, module: Qwen2MLP, silu_mul: type[torch.autograd.Function]):
        self.module, self.silu_mul = module, silu_mul

    def __call__(self, x: Tensor) -> Tensor:
        return self.module.down_proj(self.silu_mul.apply(self.module.gate_proj(x), self.module.up_proj(x)))


class _Recorded:
    """A function's passes forward and backward, for one shape of its inputs, as CUDA graphs."""

    def __init__(self, run: Callable[..., Tensor], inputs: Sequence[Tensor], parameters: Sequence[Tensor], pool):
        self.inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
        learned = [t for t in (*self.inputs, *parameters) if t.requires_grad]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what libraries do once, they do now
            y = run(*self.inputs)
            torch.autograd.grad(y, learned, torch.zeros_like(y))
        torch.cuda.current_stream().wait_stream(stream)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Other threads, that of pinned memory for one, may go on meanwhile.
        graph = partial(torch.cuda.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        with graph(self.forward):
            y = run(*self.inputs)
        self.dy = torch.empty_like(y)
        with graph(self.backward):
            gradients = iter(torch.autograd.grad(y, learned, self.dy))
        self.gradients = [next(gradients) if t.requires_grad else None for t in (*self.inputs, *parameters)]
        self.y = y.detach()


class _Replay(torch.autograd.Function):
    """One use of a recording: what it returns is overwritten by the next."""

    @staticmethod
    def forward(ctx, recorded: _Recorded, *inputs_and_parameters: Tensor):
        ctx.recorded = recorded
        for static, given in zip(recorded.inputs, inputs_and_parameters, strict=False):
            static.detach().copy_(given)
        recorded.forward.replay()
        return recorded.y.detach()

    @staticmethod
    def backward(ctx, dy: Tensor):
        recorded = ctx.recorded
        recorded.dy.copy_(dy)
        recorded.backward.replay()
        return None, *(gradient if gradient is None else gradient.detach() for gradient in recorded.gradients)


class Graphed:
    """Records the passes of ``run``, tensors to a tensor, for each shape of its inputs, and replays them.

    A pass backward must follow each pass forward before the next.
    """

    def __init__(self, run: Callable[..., Tensor], *learning: nn.Module):
        """``learning`` hold the parameters that ``run`` uses and that ask for a gradient."""
        self.run = run
        owners = [module for root in learning for module in root.modules()]
        self.places = [(owner, name) for owner in owners for name, p in owner._parameters.items() if _learns(p)]
        self.parameters = [owner._parameters[name] for owner, name in self.places]
        self.recorded: dict[tuple, _Recorded] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *inputs: Tensor) -> Tensor:
        key = tuple((t.shape, t.dtype) for t in inputs)
        if key not in self.recorded:
            if len(self.recorded) == SHAPES:
                return self.run(*inputs)
            logger.info("recording a pass for inputs of shape %s", ", ".join(str(tuple(t.shape)) for t in inputs))
            state = torch.cuda.get_rng_state()  # what is tried beforehand must not shift the dropout of the steps
            with self._aliases() as aliases:
                self.recorded[key] = _Recorded(self.run, inputs, aliases, self.pool)
            torch.cuda.set_rng_state(state)
        y = _Replay.apply(self.recorded[key], *inputs, *self.parameters)
        self._provide_gradients()
        return y

    @contextmanager
    def _aliases(self) -> Iterator[list[Tensor]]:
        """Put tensors in the parameters' place that share their memory, but not their nodes in autograd's graph.

        Such a node belongs to the stream that first used it, and lives as long as a loss that somebody keeps: that
        stream must not take part in a recording.
        """
        aliases = [p.detach().requires_grad_() for p in self.parameters]
        try:
            for (owner, name), alias in zip(self.places, aliases, strict=True):
                owner._parameters[name] = alias
            yield aliases
        finally:
            for (owner, name), parameter in zip(self.places, self.parameters, strict=True):
                owner._parameters[name] = parameter

    def _provide_gradients(self) -> None:
        """Let autograd add to gradients of zero: where there is none, it would keep a recording's memory as such."""
        missing = [p for p in self.parameters if p.grad is None]
        for parameter in missing:
            parameter.grad = torch.empty_like(parameter)
        if missing:
            torch._foreach_zero_([parameter.grad for parameter in missing])


def _learns(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and parameter.requires_grad


def record_passes(model: PeftModel) -> None:
    """Let ``model``, on its GPU and in training mode, embed and decode by CUDA graphs from now on, in place.

    Where there is a mask, a cache or a video as pixels, all runs as ever.
    """
    whole = model.get_base_model()
    decoder, embed, decode = whole.model, whole.embed, whole.model.forward
    # transformers writes a causal mask out while a graph is recorded, unless told that none is needed.
    no_mask = dict.fromkeys(decoder.config.layer_types)

    def embedded(ids, video_features, context_features):
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), False):
            return embed(ids, video_features, context_features)

    def decoded(x):
        with torch.autocast("cuda", enabled=False):  # all is in the precision of the frozen weights
            return decode(inputs_embeds=x, attention_mask=no_mask, use_cache=False).last_hidden_state

    graphed_embed = Graphed(embedded, decoder.mm_projector, decoder.image_mm_projector)
    graphed_decode = Graphed(decoded, decoder.layers)

    def training() -> bool:
        return decoder.training and torch.is_grad_enabled()

    def embed_either_way(input_ids, video_features=None, context_features=None, *pixels):
        inputs = (input_ids, video_features, context_features)
        if training() and None not in inputs and not any(p is not None for p in pixels):
            return graphed_embed(*inputs)
        return embed(*inputs, *pixels)

    def decode_either_way(inputs_embeds=None, attention_mask=None, **kwargs):
        kwargs.pop("return_dict", None)
        plain = attention_mask is None and all(value is None or value is False for value in kwargs.values())
        if training() and plain and inputs_embeds.requires_grad:
            return BaseModelOutputWithPast(last_hidden_state=graphed_decode(inputs_embeds))
        return decode(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)

    whole.embed, decoder.forward = embed_either_way, decode_either_way
