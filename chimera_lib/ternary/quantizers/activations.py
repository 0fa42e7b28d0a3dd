"""Activations at eight bits: x -> beta round(x / beta), beta = max|x| / 127 + 1e-6, one beta to a tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.quantizers.protocol import exact, straight_through

LEVELS = 127
MARGIN = 1e-6  # keeps beta above zero, and x / beta within +-127, so that nothing need be clipped
ACTIVATIONS = ("int8", "as_published", "none")


class Levels(NamedTuple):
    """An activation as int8 ``codes``, -127 ... 127, of its own shape, and the 0-dimensional ``step`` between them."""

    codes: Tensor
    step: Tensor


class ActivationQuantizer(nn.Module):
    """Fake quantiser of a layer's input, without state. The step is the whole batch's, also in eval mode.

    Args:
        straight_through: pass the gradient to x unchanged. Without, as the method was published, no gradient passes at
            all, and whatever lies before the layer never learns.

    NaN and infinite inputs come out as NaN.
    """

    def __init__(self, *, straight_through: bool = True) -> None:
        super().__init__()
        self.straight_through = straight_through

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(x if self.straight_through else x.detach(), quantise_)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Levels:
        """The integers that the forward multiplies by the step. ``x`` must be finite."""
        full = exact(x)
        step = step_of(full)
        return Levels(torch.div(full, step).round_().to(torch.int8), step)

    def extra_repr(self) -> str:
        return f"straight_through={self.straight_through}"


def quantise_(x: Tensor) -> None:
    """Overwrite ``x`` by beta round(x / beta)."""
    full = exact(x)
    step = step_of(full)
    full.div_(step).round_().mul_(step)
    if full.dtype != x.dtype:
        x.copy_(full)


def step_of(x: Tensor) -> Tensor:
    """beta, 0-dimensional."""
    if x.numel() == 0:
        return x.new_tensor(MARGIN)
    # Two vectorised reductions without a copy take a third of the time of abs().max() on a CPU.
    return torch.maximum(x.amax(), -x.amin()).div_(LEVELS).add_(MARGIN)


def activation(name: str | None) -> ActivationQuantizer | None:
    """``"int8"``, ``"as_published"`` (int8 without a gradient), or None or ``"none"``. Raises UnknownName."""
    if name is None or name == "none":
        return None
    if name not in ACTIVATIONS:
        raise UnknownName("activation quantizer", name, ACTIVATIONS, "None leaves activations as they are")
    return ActivationQuantizer(straight_through=name == "int8")
