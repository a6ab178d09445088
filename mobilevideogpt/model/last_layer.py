"""The decoder's last layer, which computes only the positions that are asked for.

Training needs the hidden states that predict a label, an answer's first token that of the last position: some dozens of
2,442. Keys and values need all positions; queries, the attention's output and the MLP do not.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, eager_attention_forward, rotate_half

IMPLEMENTATIONS = ("sdpa", "eager")  # of attention, which take any mask


class LastLayer(Qwen2DecoderLayer):
    """Qwen2's decoder layer, with one more argument."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        kept: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return hidden states ``(B, L, W)``, or ``(B, P, W)`` at the positions ``kept`` ``(P,)``."""
        if kept is None or position_embeddings is None:
            options: dict[str, Any] = {"position_ids": position_ids, "past_key_values": past_key_values, **kwargs}
            options |= {"use_cache": use_cache, "position_embeddings": position_embeddings}
            return super().forward(hidden_states, attention_mask, **options)
        residual = hidden_states[:, kept]
        hidden_states = residual + self._attend(
            self.input_layernorm(hidden_states), kept, attention_mask, position_embeddings, past_key_values
        )
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    def _attend(
        self, x: Tensor, kept: Tensor, mask: Tensor | None, embeddings: tuple[Tensor, Tensor], past_key_values: Any
    ) -> Tensor:
        attention, chosen = self.self_attn, x[:, kept]

        def heads(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], -1, attention.head_dim).transpose(1, 2)

        cos, sin = (each[:, None] for each in embeddings)  # (1 or B, 1, L, width of a head)
        queries, keys = heads(attention.q_proj(chosen)), heads(attention.k_proj(x))
        queries = queries * cos[:, :, kept] + rotate_half(queries) * sin[:, :, kept]
        keys, values = keys * cos + rotate_half(keys) * sin, heads(attention.v_proj(x))
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, attention.layer_idx)
        if mask is None:
            mask = (torch.arange(keys.shape[2], device=x.device) <= kept[:, None])[None, None]
        else:
            mask = mask[:, :, kept]
        implementation = str(attention.config._attn_implementation)
        if implementation == "eager" and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        dropout = attention.attention_dropout if self.training else 0.0
        y, _ = attend(attention, queries, keys, values, mask, dropout=dropout, scaling=attention.scaling)
        return attention.o_proj(y.reshape(*chosen.shape[:2], -1).contiguous())
