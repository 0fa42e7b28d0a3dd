"""The convolutional encoder and decoder around VAR's quantizer.

The architecture is VQGAN's (Esser et al. 2021, arXiv 2012.09841, table 7) with attention at the lowest resolution
only, as in VAR (Tian et al. 2024, arXiv 2404.02905, section 4). Attributes are called as in the public checkpoint
``vae_ch160v4096z32.pth``, whose keys they spell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

EPS = 1e-6  # of every normalisation


def norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group normalisation with gains; ``groups`` has to divide ``channels``."""
    return nn.GroupNorm(groups, channels, eps=EPS)


class ResidualBlock(nn.Module):
    """Twice norm, SiLU and 3x3 convolution, beside the block's own input (by a 1x1 convolution where widths differ)."""

    def __init__(self, inside: int, outside: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = norm(inside, groups)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2 = norm(outside, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, H, W) to (B, outside, H, W)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.nin_shortcut(x) + y


class SpatialAttention(nn.Module):
    """One head of attention among the H x W positions of a feature map, added to its input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)  # (B, 1, HW, C) each
        y = F.scaled_dot_product_attention(q, k, v)  # scaled by 1 / sqrt(C)
        return x + self.proj_out(y.squeeze(1).transpose(1, 2).reshape(x.shape))


class Halve(nn.Module):
    """Half the side: a 3x3 convolution of stride 2, padded at the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the side: nearest neighbours, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where ``attends``."""

    def __init__(
        self, inside: int, outside: int, blocks: int, *, attends: bool, groups: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [inside] + [outside] * blocks
        self.block = nn.ModuleList(ResidualBlock(widths[i], outside, groups, dropout) for i in range(blocks))
        self.attn = nn.ModuleList(SpatialAttention(outside, groups) for _ in range(blocks if attends else 0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, H, W) to (B, outside, H, W)."""
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return x


class Middle(nn.Module):
    """Two residual blocks around attention, at the lowest resolution."""

    def __init__(self, channels: int, *, attends: bool, groups: int, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups, dropout)
        self.attn_1 = SpatialAttention(channels, groups) if attends else nn.Identity()
        self.block_2 = ResidualBlock(channels, channels, groups, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) in [-1, 1] to features (B, z_channels, H / f, W / f), f = 2^(levels - 1).

    Args:
        ch: channels of the first level.
        ch_mult: channels of each level as multiples of ``ch``.
        num_res_blocks: residual blocks a level.
        z_channels: channels of the features.
        in_channels: channels of the images.
        using_sa: attention at the lowest level.
        using_mid_sa: attention in the middle.
        groups: of every group normalisation; divides every level's channels.
        dropout: within residual blocks, while training.
    """

    def __init__(
        self,
        *,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        z_channels: int,
        in_channels: int = 3,
        using_sa: bool = True,
        using_mid_sa: bool = True,
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [ch * multiple for multiple in ch_mult]
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            inside = widths[i - 1] if i else ch
            attends = using_sa and last
            level = Level(inside, width, num_res_blocks, attends=attends, groups=groups, dropout=dropout)
            level.downsample = nn.Identity() if last else Halve(width)
            self.down.append(level)
        self.mid = Middle(widths[-1], attends=using_mid_sa, groups=groups, dropout=dropout)
        self.norm_out = norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level.downsample(level(x))  # type: ignore[operator]
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Features (B, z_channels, h, w) to images (B, in_channels, h f, w f); the Encoder's arguments, mirrored.

    Each level has one residual block more than the encoder's. ``up[0]`` is the highest resolution, met last.
    """

    def __init__(
        self,
        *,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        z_channels: int,
        in_channels: int = 3,
        using_sa: bool = True,
        using_mid_sa: bool = True,
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [ch * multiple for multiple in ch_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], attends=using_mid_sa, groups=groups, dropout=dropout)
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            inside = width if last else widths[i + 1]
            attends = using_sa and last
            level = Level(inside, width, num_res_blocks + 1, attends=attends, groups=groups, dropout=dropout)
            level.upsample = Double(width) if i else nn.Identity()
            self.up.append(level)
        self.norm_out = norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], in_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level.upsample(level(x))  # type: ignore[operator]
        return self.conv_out(F.silu(self.norm_out(x)))
