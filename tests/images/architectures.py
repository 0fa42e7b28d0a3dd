"""Torch modules that a ``Network`` can be made from: shared by the tests that convert, write and read networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.images import models


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 2.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
    return module


class Functional(nn.Module):
    """The functional and method forms of the supported operations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8 * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.conv2d(x, self.first.weight, self.first.bias, stride=1, padding=1))
        y = F.batch_norm(
            self.second(x), self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias
        )
        y = torch.relu(self.norm(y))
        x = torch.add(x, y)
        x += y
        x = F.max_pool2d(x, 2)
        x = F.avg_pool2d(x, 2).relu()
        x = F.dropout(x, training=self.training)
        return F.linear(x.view(x.size(0), -1), self.last.weight, self.last.bias)


class Normalised(nn.Module):
    """Constants of every kind, in every place, and the clamps."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1))
        self.scale = nn.Parameter(torch.tensor([0.2, 0.3, 0.25]).reshape(3, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("shift", torch.linspace(-1, 1, 400))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / self.scale
        x = 0.5 + 2.0 * self.conv(x)
        x = torch.clamp(1.5 - x, -1.0, 1.25).clamp(max=1.0) - 0.1
        x = F.hardtanh(F.relu6(x * 3).div(2), -0.5, 0.9)
        return torch.flatten(x, 1).add(self.shift) * 0.5


class Joined(nn.Module):
    """Channels side by side, as in an inception block; each input is read more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 4, 3, padding="same", dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.one(x), self.other(x), x], 1)
        return (torch.cat((F.relu(x), x), dim=1) * 0.5).view(x.shape[0], -1)


class Pooled(nn.Module):
    """Zeros that a max pool sees, because what they are put around is negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x - 2.0, (1, 2, 0, 4)), 2).flatten(1)


class Aliased(nn.Module):
    """A flattened tensor whose memory is read again after something was computed from it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 2.0
        return (x.flatten(1) - 1.0) + F.relu(x).flatten(1)


MODULES = {
    "normalised": Normalised,
    "joined": Joined,
    "aliased": Aliased,
    "padded": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 3, 3, padding=1), nn.Flatten()),
    "padded before a pool": Pooled,
    "dilated": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, 2, (2, 1), (2, 1), groups=2), nn.ReLU6(), nn.Flatten()),
    "same": lambda: nn.Sequential(
        nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(1, 2)), nn.Hardtanh(), nn.Flatten()
    ),
    "average without padding": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Flatten()),
    "cifarvgg": lambda: models.CIFARVGG(filters=8),
    "resnet20": models.ResNet20,
    "functional": Functional,
    "grouped": lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), nn.Flatten()),
    "oblong": lambda: nn.Sequential(nn.Conv2d(4, 5, (1, 3), stride=(2, 1), padding=(0, 1)), nn.Flatten()),
    "padded pools": lambda: nn.Sequential(
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    ),
    "norm of a vector": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.BatchNorm1d(6, affine=False)),
    "identity": lambda: nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.Conv2d(4, 2, 1), nn.Flatten()),
}
SHAPES = {
    "normalised": (3, 12, 12),
    "joined": (3, 12, 12),
    "cifarvgg": (3, 32, 32),
    "resnet20": (3, 16, 16),
    "functional": (3, 12, 12),
}
