"""Faster ways to compute the same training step on a GPU: fused layers, and passes recorded as CUDA graphs.

A step of the 0.5B model is thousands of small kernels; a CPU takes longer to launch them than the GPU to run them. So
the passes through projectors and decoder are recorded once for each shape and replayed. Nothing here changes a formula:
results differ by rounding, and by which elements dropout draws.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm

from mobilevideogpt.model.kernels.lora import FusedLora

logger = logging.getLogger(__name__)

SHAPES = 10  # recorded, at most: five lengths (`batches.recorded_multiple`), of full batches and of an epoch's last


def fuse(model: nn.Module) -> None:
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


def _fuse_lora(model: nn.Module) -> None:
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


class _Recorder:
    """Records on one stream into one pool, where a recording may work in the memory of those before it."""

    def __init__(self):
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.waits_for_backward = False

    def __call__(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # Other threads, that of pinned memory for one, may go on meanwhile.
        return torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")


class _Recorded:
    """A function's passes forward and backward, for one shape of its inputs, as CUDA graphs."""

    def __init__(self, run, warm_up, inputs, parameters, gradients, record: _Recorder):
        self.recorder = record
        with torch.cuda.stream(record.stream):
            self.inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
            learned = [t for t in (*self.inputs, *parameters) if t.requires_grad]
            y = warm_up(*self.inputs)  # what libraries do once for a shape, they do now
            torch.autograd.grad(y, learned, torch.zeros_like(y), allow_unused=True)
            del y
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with record(self.forward):
            y = run(*self.inputs)
        self.dy = torch.empty_like(y)
        of_inputs = [torch.empty_like(t) if t.requires_grad else None for t in self.inputs]
        self.gradients = [*of_inputs, *gradients]
        kept = [gradient for gradient in self.gradients if gradient is not None]
        with record(self.backward):
            torch._foreach_copy_(kept, torch.autograd.grad(y, learned, self.dy))
        self.y = y.detach()


class _Replay(torch.autograd.Function):
    """One use of a recording: what it returns is overwritten by the next."""

    @staticmethod
    def forward(ctx, recorded: _Recorded, *inputs_and_parameters: Tensor):
        if recorded.recorder.waits_for_backward:
            raise RuntimeError("a pass backward has to follow each recorded pass forward before the next")
        recorded.recorder.waits_for_backward = True
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
        recorded.recorder.waits_for_backward = False
        return None, *(gradient if gradient is None else gradient.detach() for gradient in recorded.gradients)


class Graphed:
    """Records the passes of ``run``, tensors to a tensor, for each shape of its inputs, and replays them.

    A pass backward must follow each pass forward before the next.
    """

    def __init__(self, run: Callable[..., Tensor], *learning: nn.Module, warm_up=None, largest: tuple = ()):
        """Record ``run``, which uses the parameters of ``learning`` that ask for a gradient.

        ``warm_up`` does once, in its place, all that it does often. ``largest`` are the largest shapes of inputs to
        come: recorded first, they leave memory in which all others fit.
        """
        self.run, self.warm_up, self.largest = run, warm_up or run, largest
        owners = [module for root in learning for module in root.modules()]
        self.places = [(owner, name) for owner in owners for name, p in owner._parameters.items() if _learns(p)]
        self.parameters = [owner._parameters[name] for owner, name in self.places]
        self.recorded: dict[tuple, _Recorded | None] = {}  # None: it could not be recorded
        self.recorder: _Recorder | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.recorder is None:
            self.recorder = _Recorder()
            self.gradients = [torch.empty_like(p) for p in self.parameters]  # of the latest replay
            if self.largest:
                shapes = zip(inputs, self.largest, strict=True)
                self._record([t.new_zeros(shape, requires_grad=t.requires_grad) for t, shape in shapes])
        key = _key(inputs)
        if key not in self.recorded and len(self.recorded) < SHAPES:
            self._record(inputs)
        if (recorded := self.recorded.get(key)) is None:
            return self.run(*inputs)
        y = _Replay.apply(recorded, *inputs, *self.parameters)
        self._provide_gradients()
        return y

    def _record(self, inputs: Sequence[Tensor]) -> None:
        logger.info("recording a pass for inputs of shape %s", ", ".join(str(tuple(t.shape)) for t in inputs))
        state = torch.cuda.get_rng_state()  # what is tried beforehand must not shift the dropout of the steps
        torch.cuda.synchronize()
        recorded = None
        try:
            with self._aliases() as aliases:
                recorded = _Recorded(self.run, self.warm_up, inputs, aliases, self.gradients, self.recorder)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that this GPU, driver or library does not record
            logger.warning("a pass cannot be recorded here; training goes on without, but slower: %s", error)
        torch.cuda.synchronize()
        torch.cuda.set_rng_state(state)
        self.recorded[_key(inputs)] = recorded

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


def _key(inputs: Sequence[Tensor]) -> tuple:
    return tuple((t.shape, t.dtype) for t in inputs)


def _learns(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and parameter.requires_grad


def can_be_recorded(model: PeftModel) -> bool:
    """Whether the decoder attends as `record_passes` takes it to: causally, to all before, by PyTorch's own kernels."""
    config = model.get_base_model().config
    return config._attn_implementation == "sdpa" and set(config.layer_types) == {"full_attention"}


def record_passes(model: PeftModel, largest: tuple[int, int] | None = None) -> None:
    """Let ``model``, on its GPU and in training mode, embed and decode by CUDA graphs from now on, in place.

    Where there is a mask, a cache or a video as pixels, all runs as ever.

    Args:
        largest: Clips and tokens of the largest batch to come, for which memory is taken first.
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

    def decoded_by_one_layer(x):
        layers, decoder.layers = decoder.layers, decoder.layers[:1]
        try:
            return decoded(x)
        finally:
            decoder.layers = layers

    graphed_embed = Graphed(embedded, decoder.mm_projector, decoder.image_mm_projector)
    shapes = ((*largest, decoder.config.hidden_size),) if largest else ()
    graphed_decode = Graphed(decoded, decoder.layers, warm_up=decoded_by_one_layer, largest=shapes)

    def training() -> bool:
        return decoder.training and torch.is_grad_enabled()

    def embed_either_way(input_ids, video_features=None, context_features=None, **pixels):
        inputs = (input_ids, video_features, context_features)
        if training() and all(t is not None for t in inputs) and all(p is None for p in pixels.values()):
            return graphed_embed(*inputs)
        return embed(*inputs, **pixels)

    def decode_either_way(inputs_embeds=None, attention_mask=None, **kwargs):
        kwargs.pop("return_dict", None)
        plain = attention_mask is None and all(value is None or value is False for value in kwargs.values())
        if training() and plain and inputs_embeds.requires_grad:
            return BaseModelOutputWithPast(last_hidden_state=graphed_decode(inputs_embeds))
        return decode(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)

    whole.embed, decoder.forward = embed_either_way, decode_either_way
