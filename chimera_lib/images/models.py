"""The networks of part I by name: two for CIFAR-10 with shipped weights, and EfficientNet-Lite0 for photographs.

All take ``uint8 / 255`` as float32 in [0, 1], with no normalisation before them: the organisers' convention,
which keeps the pixel lattice (multiples of 1/255) in the network's own input space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib import efficientnet
from chimera_lib.errors import AssetMissing, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = Path(__file__).parent.parent / "weights"


class CIFARVGG(nn.Module):
    """The network of the chimera challenge: three VGG blocks and a three-layer head.

    Each block is Conv3x3-BN-ReLU twice and a MaxPool of 3 (stride 3), so a 32-pixel side shrinks
    32 -> 10 -> 3 -> 1. Source: the challenge's description of ``CIFARVGG`` (128 filters).
    """

    def __init__(self, filters: int = 128, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for _ in range(3):
            for _ in range(2):
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
            layers.append(nn.MaxPool2d(3))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(
            nn.Linear(filters, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, 32, 32) in [0, 1] to logits (B, classes)."""
        return self.head(self.flatten(self.features(x)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2; 1x1 projection where shapes change)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2; n = 3, widths 16, 32, 64)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            for block in range(3):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, 32, 32) in [0, 1] to logits (B, classes)."""
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))


MODELS: dict[str, Callable[[], nn.Module]] = {"cifarvgg": CIFARVGG, "resnet20": ResNet20}
PHOTOGRAPHS = "efficientnet-lite0"  # the network for photographs of 224 pixels, in ImageNet's classes


def build(name: str) -> nn.Module:
    """Build an untrained network by name; raises UnknownName for a name not in ``MODELS``."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]()


def input_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that network ``name`` takes."""
    side = efficientnet.SIZE if name == PHOTOGRAPHS else 32
    return 3, side, side


def load(name: str, weights: Path | None = None) -> nn.Module:
    """Build ``name`` in eval mode with its shipped weights, or with a safetensors file of the same keys.

    ``efficientnet-lite0`` has the published weights of the asset of that name, and no others. Raises UnknownName for an
    unknown name, AssetMissing where there are no weights.
    """
    from safetensors.torch import load_file

    if name == PHOTOGRAPHS and weights is None:
        return efficientnet.load().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if name not in MODELS:
        raise UnknownName("model", name, [*MODELS, PHOTOGRAPHS])
    model = build(name)
    path = weights or WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise AssetMissing(f"no weights at {path}; train them with `chimera images train --model {name}`")
    model.load_state_dict(load_file(path))
    # Channels-last convolutions run about a third faster on a CPU; values and keys stay the same.
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
