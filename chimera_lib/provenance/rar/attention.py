"""Causal self-attention with layer norms on queries and keys, and the cache that makes sampling cheap.

Source: Yu et al., Randomized Autoregressive Visual Generation, 2024, section 3; query and key norms from Dehghani et
al., Scaling Vision Transformers to 22 Billion Parameters, 2023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.configuration import RARConfig

EPS = 1e-6  # of all layer norms


class KeyValueCache:
    """Keys and values of the positions that one attention layer has seen; B, nh, hs as in the layer."""

    def __init__(self, positions: int) -> None:
        """Room for that many positions, made when the first ones come: then size, device and dtype are known."""
        self.positions, self.length = positions, 0
        self.keys = self.values = torch.empty(0)

    def append(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add those of new positions, each (B, nh, n, hs); return those of all positions so far."""
        if self.length == 0:
            room = (*k.shape[:2], self.positions, k.shape[3])
            self.keys, self.values = k.new_empty(room), v.new_empty(room)
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class Attention(nn.Module):
    """nh heads of size hs = C / nh; each position looks at itself and at those before it."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.attn_drop = config.attn_drop
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // self.heads, EPS)
        self.k_norm = nn.LayerNorm(width // self.heads, EPS)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, cache: KeyValueCache | None = None) -> torch.Tensor:
        """(B, T, C) -> (B, T, C). With a cache, x holds the next positions: any number at first, then one by one."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, nh, hs)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, nh, T, hs) each
        q, k = self.q_norm(q), self.k_norm(k)
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.attn_drop if self.training else 0.0
        # A single new position may see all that there is: no mask. Otherwise queries and keys are the same positions.
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=q.shape[2] > 1)  # (B, nh, T, hs)
        return self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))
