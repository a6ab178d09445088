"""Tokens of an answer decoded by a captured CUDA graph.

A token is thousands of small kernels, most of them an adapter's; the CPU takes longer to launch them than the GPU to
run them. So the pass of one token through the decoder is captured once for each number of clips and length, and
replayed. No formula changes. Results differ by rounding, since attention sees a cache of fixed length with a mask.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

logger = logging.getLogger(__name__)

LENGTH_MULTIPLE = 256  # of a captured cache, in tokens


class AnswerCache(DynamicCache):
    """The cache of one generation: the prompt's pass fills it, `decode` then moves it to `DecodingGraphs`."""

    def __init__(self, graphs: "DecodingGraphs", config, new_tokens: int):
        super().__init__(config=config)
        self.graphs, self.new_tokens = graphs, new_tokens
        self.decoded: int | None = None  # tokens in the captured cache; None before the first is decoded

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens so far."""
        return super().get_seq_length(layer_idx) if self.decoded is None else self.decoded

    def decode(self, decoder: Any, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the last hidden states of one more token each, ``(B, 1, hidden_size)``.

        Args:
            decoder: The language model without its head.
            x: The embedded tokens, ``(B, 1, hidden_size)``.
            attention_mask: ``(B, tokens so far and one)``, padded on the left; of the first call.
        """
        if self.decoded is None:
            self.decoded = super().get_seq_length()
            padding = x.new_zeros(len(x), dtype=torch.long)
            if attention_mask is not None:
                padding = (attention_mask == 0).sum(-1)
            self.graphs.load(decoder, x, self, padding, self.decoded + self.new_tokens)
            self.layers.clear()
        self.decoded += 1
        return self.graphs.run(x)


class DecodingGraphs:
    """Captured passes of one token, by the number of clips and the length of their cache; for one adapter.

    Args:
        capture: Whether to capture. If not, the same passes are launched one by one, as on a CPU.
    """

    def __init__(self, capture: bool = True):
        self.capture = capture
        self.passes: dict[tuple[int, int], _TokenPass] = {}
        self.current: _TokenPass | None = None

    def cache(self, config, new_tokens: int) -> AnswerCache:
        """Return the cache for a generation of at most so many tokens."""
        return AnswerCache(self, config, new_tokens)

    def load(self, decoder: Any, x: Tensor, cache: DynamicCache, padding: Tensor, tokens: int) -> None:
        """Copy the keys and values of the prompts, and capture the pass if it is the first of this shape.

        Args:
            decoder: The language model without its head.
            x: A token of each clip.
            cache: After the prompts' pass.
            padding: Padded positions on the left of each prompt, ``(B,)``.
            tokens: The most that the cache will contain.
        """
        key = len(x), LENGTH_MULTIPLE * math.ceil(tokens / LENGTH_MULTIPLE)
        if key not in self.passes:
            self.passes[key] = _TokenPass(decoder, x, cache, key[1])
        self.current = self.passes[key]
        self.current.load(cache, padding)
        if self.capture and x.is_cuda and self.current.graph is None:
            self._capture(self.current, x, cache, padding)
            self.current.load(cache, padding)

    def _capture(self, token_pass: "_TokenPass", x: Tensor, cache: DynamicCache, padding: Tensor) -> None:
        """Capture a pass, and use the graph only if it computes what the launched kernels do."""
        launched = token_pass(x).clone()
        try:
            token_pass.load(cache, padding)
            token_pass.capture()
            token_pass.load(cache, padding)
            wrong = not torch.allclose(token_pass(x), launched, rtol=0.05, atol=0.05)
            problem = "a replay gives other values" if wrong else None
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # this GPU, driver or library cannot capture an operation
            problem = str(error)
        if problem:
            logger.warning("tokens cannot be captured as a CUDA graph here, so that answers take longer: %s", problem)
            self.capture, token_pass.graph = False, None

    def run(self, x: Tensor) -> Tensor:
        """Decode one more token of each clip, ``(B, 1, hidden_size)``."""
        assert self.current is not None  # `load` comes first
        return self.current(x)


def decoding_graphs(model: Any) -> DecodingGraphs | None:
    """Return graphs for a model on a GPU, to be used as long as it has its adapter; None without a GPU."""
    return DecodingGraphs() if model.device.type == "cuda" else None


class _TokenPass:
    """The pass of one token, its cache of fixed length, and the graph of both once it is captured."""

    def __init__(self, decoder: Any, x: Tensor, prompts: DynamicCache, length: int):
        self.decoder, self.x = decoder, torch.zeros_like(x)
        self.cache = StaticCache(decoder.config, length)
        for static, layer in self._layers(prompts):
            static.lazy_initialization(layer.keys, layer.values)
        self.places = torch.arange(length, device=x.device)
        self.tokens = torch.zeros((), dtype=torch.long, device=x.device)
        self.padding = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.y = self.x

    def _layers(self, prompts: DynamicCache) -> Iterator[tuple[Any, Any]]:
        return zip(self.cache.layers, prompts.layers, strict=True)

    def load(self, prompts: DynamicCache, padding: Tensor) -> None:
        """Copy the keys and values of the prompts."""
        length = 0
        for static, layer in self._layers(prompts):
            length = layer.keys.shape[2]
            static.keys[:, :, :length].copy_(layer.keys)
            static.values[:, :, :length].copy_(layer.values)
            static.cumulative_length.fill_(length)
        self.tokens.fill_(length)
        self.padding.copy_(padding)

    def capture(self) -> None:
        """Capture the pass; a pass before that lets libraries do their work of a first call."""
        logger.info("capturing a CUDA graph for the tokens of %d clips, up to %d tokens", len(self.x), len(self.places))
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        # Rounded weights that autocast keeps are freed at the end of its block, which the graph outlives.
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), False):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._run()
            torch.cuda.current_stream().wait_stream(stream)
            # "thread_local": other threads may call CUDA meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.y = self._run()
        self.graph = graph

    def __call__(self, x: Tensor) -> Tensor:
        self.x.copy_(x)
        if self.graph is None:
            return self._run()
        self.graph.replay()
        return self.y

    def _run(self) -> Tensor:
        allowed = (self.places <= self.tokens) & (self.places >= self.padding[:, None])  # (B, length)
        y = self.decoder(
            inputs_embeds=self.x,
            attention_mask=dict.fromkeys(self.decoder.config.layer_types, allowed[:, None, None]),
            position_ids=(self.tokens - self.padding)[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.tokens += 1
        return y
