"""Forward and backward passes as captured CUDA graphs.

A step of the 0.5B model is thousands of small kernels; the CPU takes longer to launch them than the GPU to run them.
So the passes through projectors and decoder are captured once for each shape and replayed. No formula changes. Results
differ by rounding and by the elements that dropout zeroes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

logger = logging.getLogger(__name__)

MAX_SHAPES = 10  # captured at most: five lengths (`plan.length_multiple`), each in full batches and in an epoch's last


class _Capture:
    """Captures graphs on one stream into one memory pool, so that a graph may reuse the memory of earlier ones."""

    def __init__(self):
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.awaits_backward = False

    def __call__(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # "thread_local": other threads, such as that of pinned memory, may call CUDA meanwhile.
        return torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")


class _CapturedPasses:
    """The forward and backward pass of a function as CUDA graphs, for one shape of its inputs."""

    def __init__(self, run, warm_up, inputs, parameters, gradients, capture: _Capture):
        self.capture = capture
        with torch.cuda.stream(capture.stream):
            self.inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
            differentiated = [t for t in (*self.inputs, *parameters) if t.requires_grad]
            y = warm_up(*self.inputs)  # libraries do their work of a first call here, outside the capture
            torch.autograd.grad(y, differentiated, torch.zeros_like(y), allow_unused=True)
            del y
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with capture(self.forward):
            y = run(*self.inputs)
        self.dy = torch.empty_like(y)
        of_inputs = [torch.empty_like(t) if t.requires_grad else None for t in self.inputs]
        self.gradients = [*of_inputs, *gradients]
        kept = [gradient for gradient in self.gradients if gradient is not None]
        with capture(self.backward):
            torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage]
                kept, torch.autograd.grad(y, differentiated, self.dy)
            )
        self.y = y.detach()


class _Replay(torch.autograd.Function):
    """One replay of captured passes; the next replay overwrites its result."""

    @staticmethod
    def forward(ctx, captured: _CapturedPasses, *inputs_and_parameters: Tensor):
        if captured.capture.awaits_backward:
            raise RuntimeError("a captured forward pass was replayed twice; run the backward pass in between")
        captured.capture.awaits_backward = True
        ctx.captured = captured
        for static, given in zip(captured.inputs, inputs_and_parameters, strict=False):
            static.detach().copy_(given)
        captured.forward.replay()
        return captured.y.detach()

    @staticmethod
    def backward(ctx, dy: Tensor):
        captured = ctx.captured
        captured.dy.copy_(dy)
        captured.backward.replay()
        captured.capture.awaits_backward = False
        return None, *(gradient if gradient is None else gradient.detach() for gradient in captured.gradients)


class Graphed:
    """Captures the passes of ``run``, tensors to a tensor, for each shape of its inputs, and replays them.

    Each forward pass needs its backward pass before the next.
    """

    def __init__(self, run: Callable[..., Tensor], *trained: nn.Module, warm_up=None, largest: tuple = ()):
        """Capture ``run`` later, at its first call with a shape.

        Args:
            run: The function; it uses the trainable parameters of ``trained``.
            trained: Modules.
            warm_up: Does once all that ``run`` does repeatedly; ``run`` by default.
            largest: Largest shapes of inputs to come. They are captured first; all others then fit their memory.
        """
        self.run, self.warm_up, self.largest = run, warm_up or run, largest
        owners = [module for root in trained for module in root.modules()]
        self.places: list[tuple[nn.Module, str]] = []
        self.parameters: list[nn.Parameter] = []
        for owner in owners:
            for name, parameter in owner._parameters.items():
                if parameter is not None and parameter.requires_grad:
                    self.places.append((owner, name))
                    self.parameters.append(parameter)
        self.captured: dict[tuple, _CapturedPasses | None] = {}  # None: the capture failed
        self.capture: _Capture | None = None  # from the first call on
        self.gradients: list[Tensor] = []  # of the latest replay

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.capture is None:
            self.capture = self._start(inputs)
        key = _key(inputs)
        if key not in self.captured and len(self.captured) < MAX_SHAPES:
            self._capture(inputs, self.capture)
        if (captured := self.captured.get(key)) is None:
            return self.run(*inputs)
        y = _Replay.apply(captured, *inputs, *self.parameters)
        self._provide_gradients()
        return y

    def _start(self, inputs: Sequence[Tensor]) -> _Capture:
        capture = _Capture()
        self.gradients = [torch.empty_like(p) for p in self.parameters]
        if self.largest:
            shapes = zip(inputs, self.largest, strict=True)
            self._capture([t.new_zeros(shape, requires_grad=t.requires_grad) for t, shape in shapes], capture)
        return capture

    def _capture(self, inputs: Sequence[Tensor], capture: _Capture) -> None:
        logger.info("capturing CUDA graphs for inputs of shape %s", ", ".join(str(tuple(t.shape)) for t in inputs))
        state = torch.cuda.get_rng_state()  # the warm-up must not shift the dropout of the steps
        torch.cuda.synchronize()
        captured = None
        try:
            with self._aliases() as aliases:
                captured = _CapturedPasses(self.run, self.warm_up, inputs, aliases, self.gradients, capture)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # this GPU, driver or library cannot capture an operation
            logger.warning("CUDA graphs cannot be captured here; training continues without, but slower: %s", error)
        torch.cuda.synchronize()
        torch.cuda.set_rng_state(state)
        self.captured[_key(inputs)] = captured

    @contextmanager
    def _aliases(self) -> Iterator[list[Tensor]]:
        """Replace the parameters by tensors that share their memory, but not their nodes in autograd's graph.

        Such a node belongs to the stream that first used it, and lives as long as somebody keeps a loss. That stream
        must not take part in a capture.
        """
        aliases = [p.detach().requires_grad_() for p in self.parameters]
        try:
            for (owner, name), alias in zip(self.places, aliases, strict=True):
                owner._parameters[name] = alias  # pyright: ignore[reportArgumentType]  # a Tensor suffices
            yield aliases
        finally:
            for (owner, name), parameter in zip(self.places, self.parameters, strict=True):
                owner._parameters[name] = parameter

    def _provide_gradients(self) -> None:
        """Give each parameter a gradient of zero to add to; else autograd would adopt a graph's memory as gradient."""
        missing = [p for p in self.parameters if p.grad is None]
        gradients = [torch.empty_like(parameter) for parameter in missing]
        for parameter, gradient in zip(missing, gradients, strict=True):
            parameter.grad = gradient
        if gradients:
            torch._foreach_zero_(gradients)  # pyright: ignore[reportPrivateImportUsage]


def _key(inputs: Sequence[Tensor]) -> tuple:
    return tuple((t.shape, t.dtype) for t in inputs)


def can_be_captured(model: PeftModel) -> bool:
    """Whether the decoder attends as `capture_passes` assumes: causally, to all positions, by PyTorch's kernels."""
    config: Any = model.get_base_model().config
    return config._attn_implementation == "sdpa" and set(config.layer_types) == {"full_attention"}


def capture_passes(model: PeftModel, largest: tuple[int, int] | None = None) -> None:
    """Let ``model``, on its GPU and in training mode, embed and decode by CUDA graphs from now on, in place.

    Calls with a mask, a cache or pixels run as before.

    Args:
        model: The model.
        largest: Clips and tokens of the largest batch to come, for which memory is reserved first.
    """
    whole: Any = model.get_base_model()
    decoder, embed, decode = whole.model, whole.embed, whole.model.forward
    # transformers materialises a causal mask during a capture, unless told that none is needed.
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

    def embed_or_replay(
        input_ids: Tensor, video_features: Tensor | None = None, context_features: Tensor | None = None, **pixels
    ):
        no_pixels = all(p is None for p in pixels.values())
        if training() and no_pixels and video_features is not None and context_features is not None:
            return graphed_embed(input_ids, video_features, context_features)
        return embed(input_ids, video_features, context_features, **pixels)

    def decode_or_replay(inputs_embeds: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs):
        kwargs.pop("return_dict", None)
        kept = kwargs.pop("kept", None)  # of another number in each batch; a replay returns all positions
        plain = attention_mask is None and all(value is None or value is False for value in kwargs.values())
        if training() and plain and inputs_embeds is not None and inputs_embeds.requires_grad:
            return BaseModelOutputWithPast(last_hidden_state=graphed_decode(inputs_embeds))
        return decode(inputs_embeds=inputs_embeds, attention_mask=attention_mask, kept=kept, **kwargs)

    whole.embed, decoder.forward = embed_or_replay, decode_or_replay
