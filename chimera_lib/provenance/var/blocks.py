"""The parts of VAR's transformer: attention with a cache, the feed-forward layer, normalisation driven by the class.

Tian et al. 2024 (arXiv 2404.02905), section 3.3 and appendix: adaptive layer norm (Peebles & Xie 2023), queries and
keys of unit length. Attributes are called as in the public checkpoints ``var_d16.pth`` to ``var_d30.pth``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = math.log(100)  # of the learnt logarithm of a head's temperature


class Cache:
    """Keys and values of one layer, for all positions so far, each (B, nh, T, hs)."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, nh, t, hs) and return everything so far."""
        self.k = k if self.k is None else torch.cat((self.k, k), dim=2)
        self.v = v if self.v is None else torch.cat((self.v, v), dim=2)
        return self.k, self.v


class SelfAttention(nn.Module):
    """Multi-head attention; with ``l2_norm`` of unit queries and keys, times a learnt factor of at most 100 a head.

    Keys have no learnt bias: ``zero_k_bias`` is a buffer of zeros that the checkpoints hold.
    """

    zero_k_bias: Tensor

    def __init__(self, width: int, heads: int, *, l2_norm: bool, attn_drop: float, drop: float) -> None:
        super().__init__()
        self.heads, self.l2_norm, self.attn_drop = heads, l2_norm, attn_drop
        if l2_norm:
            self.scale = 1.0
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4)))
        else:
            self.scale = 0.25 / math.sqrt(width // heads)
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Map (B, T, C) to the same shape. ``mask`` is added to the logits; ``cache`` brings the positions before."""
        batch, length, width = x.shape
        bias = torch.cat((self.q_bias, self.zero_k_bias, self.v_bias))
        qkv = F.linear(x, self.mat_qkv.weight, bias).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, nh, T, hs) each
        if self.l2_norm:
            q = F.normalize(q, dim=-1) * self.scale_mul_1H11.clamp_max(LARGEST).exp()
            k = F.normalize(k, dim=-1)
        if cache is not None:
            k, v = cache.extend(k, v)
        dropped = self.attn_drop if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped, scale=self.scale)
        return self.proj_drop(self.proj(y.transpose(1, 2).reshape(batch, length, width)))


class FeedForward(nn.Module):
    """Two linear layers with GELU in its tanh form between them."""

    def __init__(self, width: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(F.gelu(self.fc1(x), approximate="tanh")))


class SharedAdaLin(nn.Linear):
    """From a condition (B, C) the six modulations (B, 1, 6, C) that all blocks share."""

    def forward(self, condition: Tensor) -> Tensor:
        return super().forward(condition).view(len(condition), 1, 6, -1)


class Block(nn.Module):
    """Attention and feed-forward, each normalised, scaled and shifted before and gated after, by the condition.

    The six modulations come in the order gate 1, gate 2, scale 1, scale 2, shift 1, shift 2: from the block's own
    linear layer, or with ``shared_aln`` from a layer common to all blocks plus the block's own constants.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        shared_aln: bool,
        l2_norm: bool,
        eps: float,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.shared_aln, self.drop_path = shared_aln, drop_path
        self.attn = SelfAttention(width, heads, l2_norm=l2_norm, attn_drop=attn_drop, drop=drop)
        self.ffn = FeedForward(width, hidden, drop)
        self.norm = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        if shared_aln:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, width) / width**0.5)
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        """Map (B, T, C) to the same shape; ``condition`` is (B, C), or (B, 1, 6, C) with ``shared_aln``."""
        six = self.ada_gss + condition if self.shared_aln else self.ada_lin(condition).view(len(x), 1, 6, -1)
        gate1, gate2, scale1, scale2, shift1, shift2 = six.unbind(2)  # (B, 1, C) each
        x = x + self._kept(self.attn(self.norm(x) * (1 + scale1) + shift1, mask, cache) * gate1)
        return x + self._kept(self.ffn(self.norm(x) * (1 + scale2) + shift2) * gate2)

    def _kept(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016): while training, drop the branch for some samples of a batch."""
        if not self.training or self.drop_path <= 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep


class AdaptiveNorm(nn.Module):
    """The normalisation before the head, with the condition's scale and shift, in this order."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, T, C), given a condition (B, C), to the same shape."""
        scale, shift = self.ada_lin(condition).unsqueeze(1).chunk(2, dim=-1)  # (B, 1, C) each
        return self.norm(x) * (1 + scale) + shift
