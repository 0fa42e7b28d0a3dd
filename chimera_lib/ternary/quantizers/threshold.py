"""``chimera``: q = sign(W) [|W| > alpha gamma], with alpha warmed up, aimed by a controller, or overridden."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.ternary.quantizers.gamma import GammaQuantizer

if TYPE_CHECKING:
    from torch import Tensor

UNSET = -1.0  # of the override: no threshold is negative


class ThresholdQuantizer(GammaQuantizer):
    """Threshold quantizer of Chimera 2.1.

    The n-th training forward (n = 1, 2, ...) uses
    alpha = alpha_min + min((n - 1) / (N - 1), 1) (alpha_target - alpha_min): the first of the N warm-up forwards uses
    alpha_min, the N-th and all later ones alpha_target. An eval forward uses the alpha of the last training forward.

    Args:
        weight: the weight that will be quantized; only shape and device are used.
        alpha_target: threshold after the warm-up, in units of gamma, >= 0.
        alpha_min: threshold of the first training forward, >= 0.
        warmup: N, training forwards; with 0 or 1 there is no warm-up.
        alpha_override: where given, the threshold of every forward until it is set to None.
        options: those of GammaQuantizer: ``rho_s``, ``scale``, ``per_channel``.

    Raises ValueError for a negative or non-finite alpha and for a negative warm-up.
    """

    forwards: Tensor  # training forwards so far
    target: Tensor
    override: Tensor

    def __init__(
        self,
        weight: Tensor,
        *,
        alpha_target: float = 0.7,
        alpha_min: float = 0.0,
        warmup: int = 100,
        alpha_override: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
            raise ValueError(f"warmup={warmup!r}: expected a number of training forwards, 0 (none) or more")
        self.alpha_min, self.warmup = checked("alpha_min", alpha_min), warmup
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int64, device=weight.device))
        self.register_buffer("target", torch.zeros((), device=weight.device))
        self.register_buffer("override", torch.full((), UNSET, device=weight.device))
        self.alpha_target = alpha_target
        self.alpha_override = alpha_override

    @property
    def alpha_target(self) -> float:
        """The threshold at the end of the warm-up; may be set at any time. Kept in float32, so to seven digits."""
        return readable(self.target)

    @alpha_target.setter
    def alpha_target(self, alpha: float) -> None:
        self.target.fill_(checked("alpha_target", alpha))

    @property
    def alpha_override(self) -> float | None:
        """The threshold that takes the place of the scheduled one, or None; may be set at any time."""
        alpha = readable(self.override)
        return None if alpha < 0 else alpha

    @alpha_override.setter
    def alpha_override(self, alpha: float | None) -> None:
        self.override.fill_(UNSET if alpha is None else checked("alpha_override", alpha))

    @property
    def alpha_used(self) -> float:
        """The threshold of the last training forward, and of an eval forward now."""
        return readable(self.alpha())

    def alpha(self) -> Tensor | float:
        """``alpha_used``, unrounded: a number on the CPU, elsewhere a 0-dimensional tensor that no device waits for."""
        if self.target.device.type == "cpu" and not torch.compiler.is_compiling():
            override, target = self.override.item(), self.target.item()
            done = max(self.forwards.item() - 1, 0)
            if override >= 0 or done >= self.warmup - 1:
                return override if override >= 0 else target
            return self.alpha_min + done / (self.warmup - 1) * (target - self.alpha_min)
        scheduled = self.target
        if self.warmup > 1:
            share = torch.div(self.forwards - 1, self.warmup - 1).clamp_(0, 1)
            scheduled = torch.lerp(
                torch.full_like(self.target, self.alpha_min), self.target, share
            )  # exact at the ends
        return torch.where(self.override < 0, scheduled, self.override)

    def signs_(self, weight: Tensor, magnitude: Tensor, gamma: Tensor) -> Tensor:
        kept = magnitude.gt_(gamma * self.alpha())
        return torch.copysign(kept, weight, out=weight).add_(0.0)  # which makes +0 of -0

    def advance(self, magnitude: Tensor) -> Tensor:
        self.forwards.add_(1)
        return super().advance(magnitude)

    def extra_repr(self) -> str:
        return f"alpha_min={self.alpha_min}, warmup={self.warmup}, {super().extra_repr()}"


def checked(name: str, alpha: float) -> float:
    """``alpha`` as a float. Raises ValueError, with ``name`` in the message, unless it is finite and >= 0."""
    if not (math.isfinite(alpha) and alpha >= 0):
        way_out = "; None takes an override away" if name == "alpha_override" else ""
        raise ValueError(f"{name}={alpha}: expected a finite threshold >= 0 in units of gamma, such as 0.7{way_out}")
    return float(alpha)


def readable(alpha: Tensor | float) -> float:
    """A float32 as the decimal number that was meant: .7, not .699999988."""
    return round(float(alpha), 7)
