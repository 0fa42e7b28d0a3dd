"""A transformer block whose norms are shifted, scaled and gated by a condition at every position.

Source: Peebles & Xie, Scalable Diffusion Models with Transformers, 2023, figure 3 (adaLN-Zero), as Yu et al. 2024
condition it on class and position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.provenance.rar.attention import EPS, Attention, KeyValueCache

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.configuration import RARConfig


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Scale and shift normalised activations; all (B, T, C)."""
    return x * (1 + scale) + shift


class FeedForward(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Attention and feed-forward, each (B, T, C) -> (B, T, C), under the condition c of (B, T, C)."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = FeedForward(config)
        self.adaLN_modulation = _modulation(width, 6)

    def forward(self, x: torch.Tensor, c: torch.Tensor, cache: KeyValueCache | None = None) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), cache)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalNorm(nn.Module):
    """The norm before the head; here scale comes before shift, the other way round than in a block."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(config.hidden_size, EPS, elementwise_affine=False)
        self.adaLN_modulation = _modulation(config.hidden_size, 2)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        scale, shift = self.adaLN_modulation(c).chunk(2, dim=-1)
        return modulate(self.norm_final(x), shift, scale)


def _modulation(width: int, parts: int) -> nn.Sequential:
    """The layer that turns a condition into `parts` vectors; zero at first, so that a new block changes nothing."""
    linear = nn.Linear(width, parts * width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)
