"""Encoder and decoder of the MaskGIT tokenizer: residual blocks of convolutions, without attention.

Source: Chang et al., MaskGIT, 2022, which takes the VQGAN of Esser et al. 2021 and removes its attention layers. Names
of modules are those of the public checkpoint's keys. In comments, h and w are sides at the level in question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.configuration import MaskGitVQGANConfig

EPS = 1e-6  # of all group norms


class ResnetBlock(nn.Module):
    """Twice norm, SiLU and a 3x3 convolution, and a shortcut: (B, in, h, w) -> (B, out, h, w)."""

    def __init__(self, inside: int, outside: int, config: MaskGitVQGANConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_groups, inside, EPS)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(config.norm_groups, outside, EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.nin_shortcut = nn.Conv2d(outside, outside, 1, bias=False) if inside != outside else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x)))  # (B, out, h, w)
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        # Where channels change, the published weights project what conv2 returns and the block's input is left out.
        return y + (x if self.nin_shortcut is None else self.nin_shortcut(y))


class DownsamplingBlock(nn.Module):
    """The residual blocks of one level, then the mean of every 2x2 pixels where another level follows."""

    def __init__(self, inside: int, outside: int, config: MaskGitVQGANConfig, *, halve: bool) -> None:
        super().__init__()
        self.block = _blocks(inside, outside, config)
        self.halve = halve

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.block:
            x = block(x)
        return F.avg_pool2d(x, 2) if self.halve else x


class UpsamplingBlock(nn.Module):
    """The residual blocks of one level, then twice the side (nearest pixel) and a convolution."""

    def __init__(self, inside: int, outside: int, config: MaskGitVQGANConfig, *, double: bool) -> None:
        super().__init__()
        self.block = _blocks(inside, outside, config)
        self.upsample_conv = nn.Conv2d(outside, outside, 3, padding=1) if double else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.block:
            x = block(x)
        if self.upsample_conv is None:
            return x
        return self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Encoder(nn.Module):
    """Images (B, 3, H, W) -> features (B, z_channels, H / stride, W / stride)."""

    def __init__(self, config: MaskGitVQGANConfig) -> None:
        super().__init__()
        widths = [config.hidden_channels * factor for factor in config.channel_mult]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.num_channels, config.hidden_channels, 3, padding=1, bias=False)
        befores = [config.hidden_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            DownsamplingBlock(inside, outside, config, halve=level != last)
            for level, (inside, outside) in enumerate(zip(befores, widths, strict=True))
        )
        self.mid = _blocks(widths[-1], widths[-1], config)
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)  # (B, hidden_channels, H, W)
        for level in self.down:
            x = level(x)
        for block in self.mid:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Features (B, z_channels, h, w) -> images (B, 3, h * stride, w * stride), not clamped."""

    def __init__(self, config: MaskGitVQGANConfig) -> None:
        super().__init__()
        widths = [config.hidden_channels * factor for factor in config.channel_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = _blocks(widths[-1], widths[-1], config)
        befores = [*widths[1:], widths[-1]]
        # Listed from the finest level to the coarsest, as the checkpoint numbers them; passed through backwards.
        self.up = nn.ModuleList(
            UpsamplingBlock(inside, outside, config, double=level != 0)
            for level, (inside, outside) in enumerate(zip(befores, widths, strict=True))
        )
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[0], EPS)
        self.conv_out = nn.Conv2d(widths[0], config.num_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for block in self.mid:
            x = block(x)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def _blocks(inside: int, outside: int, config: MaskGitVQGANConfig) -> nn.ModuleList:
    """The residual blocks of one level; the first changes the number of channels."""
    ins = [inside] + [outside] * (config.num_res_blocks - 1)
    return nn.ModuleList(ResnetBlock(one, outside, config) for one in ins)
