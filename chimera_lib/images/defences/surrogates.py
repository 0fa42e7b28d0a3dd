"""Defended models as the attacker differentiates them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Averaged(nn.Module):
    """The mean logits of ``model`` over several transformations of the input.

    Args:
        model: maps (N, 3, H, W) to (N, classes).
        views: functions of (N, 3, H, W) to the same shape.
    """

    def __init__(self, model: nn.Module, views: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> None:
        super().__init__()
        self.model, self.views = model, list(views)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [0, 1] to mean logits (N, classes)."""
        seen = torch.cat([view(x) for view in self.views])
        return self.model(seen).reshape(len(self.views), len(x), -1).mean(0)


class Exact(nn.Module):
    """A surrogate's gradient at the values of the real thing (a "backward pass differentiable approximation").

    Source: Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of security (2018), section 4.1.

    Args:
        surrogate: differentiable, maps (N, 3, H, W) to (N, classes).
        values: the real system's logits (N, classes) of images uint8 (N, H, W, 3).
    """

    def __init__(self, surrogate: nn.Module, values: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.surrogate, self.values = surrogate, values
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W), multiples of 1/255, to the real logits (N, classes)."""
        images = (x.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        real = torch.from_numpy(np.array(self.values(images)))
        if not x.requires_grad:
            return real
        guess = self.surrogate(x)
        return guess + (real - guess).detach()


class Lowered(nn.Module):
    """Logits whose largest is lowered by ``threshold``: their order flips where the margin falls below it."""

    def __init__(self, model: nn.Module, threshold: float) -> None:
        super().__init__()
        self.model, self.threshold = model, threshold
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, classes)."""
        z = self.model(x).double()
        return z - self.threshold * nn.functional.one_hot(z.argmax(1), z.shape[1])
