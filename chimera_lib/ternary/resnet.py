"""ResNet-20 for 32 x 32 images (He et al. 2016, section 4.2) in full precision or with ternary layers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary import quantizers
from chimera_lib.ternary.convert import convert

BASELINE = "fp32_baseline"
MODES = (BASELINE, *quantizers.QUANTIZERS)
SHORTCUTS = ("identity", "projection")
BLOCKS = 3  # to a stage; three stages of 2 x 3 convolutions, the stem and the classifier are 20 layers


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.added = stride, outside - inside
        self.projection: nn.Module | None = None
        if shortcut == "projection" and inside != outside:
            convolution = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.projection = nn.Sequential(convolution, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.beside(x))

    def beside(self, x: Tensor) -> Tensor:
        """The shortcut: x; projected; or (option A) every second pixel, with channels of zeros around."""
        if self.projection is not None:
            return self.projection(x)
        if self.added:
            before = self.added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))
        return x


class ChimeraResNet20(nn.Module):
    """CIFAR's ResNet-20: 269,722 parameters at the usual width, 272,474 with projections.

    Args:
        mode: ``"fp32_baseline"``, ``"strict_bitnet"``, ``"chimera"``, ``"ttq"`` or ``"lsq"``.
        first_last_fp32: keep the stem and the classifier in full precision.
        classes: outputs.
        width: channels of the first stage; the others have two and four times as many.
        shortcut: where the shape changes: ``"identity"`` (He et al.'s option A, which they use for CIFAR: 59
            parameter tensors) or ``"projection"`` (option B, as in Chimera's published network: 65).
        activation: input quantizer of ternary layers: ``"int8"``, ``"as_published"`` (stops the gradient), or None.
        options: those of the quantizer.

    Modes differ in nothing but their layers: at one torch seed all start from the same weights (He et al. 2015).
    Raises UnknownName, and ValueError for a shortcut, width or number of classes out of range.
    """

    def __init__(
        self,
        mode: str = "chimera",
        *,
        first_last_fp32: bool = True,
        classes: int = 10,
        width: int = 16,
        shortcut: str = "identity",
        activation: str | None = "int8",
        **options: Any,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UnknownName("mode of ChimeraResNet20", mode, MODES)
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut={shortcut!r}: expected 'identity' (option A) or 'projection' (option B)")
        if width < 1 or classes < 1:
            raise ValueError(f"width={width}, classes={classes}: expected at least 1 of each")
        self.mode = mode
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        channels, blocks = width, []
        for stage in range(3):
            for turn in range(BLOCKS):
                blocks.append(Block(channels, width << stage, 2 if stage and not turn else 1, shortcut))
                channels = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if mode != BASELINE:
            ends = ("conv", "fc") if first_last_fp32 else ()
            convert(self, mode=mode, skip=lambda n, _: n in ends, activation=activation, inplace=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W), H and W multiples of 4 and usually 32, to logits (B, classes)."""
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(x.mean(dim=(2, 3)))
