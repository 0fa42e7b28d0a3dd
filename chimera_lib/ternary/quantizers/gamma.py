"""gamma, the running mean of |W| by which the quantizers of BitNet's family measure a weight.

gamma_t = max(EMA_t, 1e-6), EMA_t = rho_s EMA_{t-1} + (1 - rho_s) mean|W_t|, EMA_1 = mean|W_1|; BitNet b1.58 (Ma et al.
2024, eq. 3) takes the mean itself, which is rho_s = 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chimera_lib.ternary.quantizers.protocol import (
    LEAST_SCALE,
    Quantizer,
    Ternary,
    exact,
    recomputing,
    straight_through,
)

SCALES = ("gamma", "optimal")
NONE_YET = -1.0  # no mean of magnitudes is negative


class GammaQuantizer(Quantizer):
    """A quantizer whose codes depend on W / gamma, and whose gradient passes straight through to W.

    Args:
        weight: the weight that will be quantized; only shape and device are used.
        rho_s: rate of gamma's EMA, 0 <= rho_s < 1.
        scale: what a code of 1 stands for: ``"gamma"``, as published, or ``"optimal"``, <W, q> / <q, q>, which is
            nearest to W in the mean square (Li & Liu 2016, Ternary Weight Networks, eq. 4).
        per_channel: one gamma and one scale for each output channel.

    Until the first training forward gamma is the mean of the weight at hand. Raises ValueError for other arguments.
    """

    gamma_ema: Tensor

    def __init__(self, weight: Tensor, *, rho_s: float = 0.95, scale: str = "gamma", per_channel: bool = False) -> None:
        super().__init__(weight, per_channel=per_channel)
        if not (math.isfinite(rho_s) and 0 <= rho_s < 1):
            raise ValueError(f"rho_s={rho_s}: expected 0 <= rho_s < 1 (0 follows mean|W| at once, .95 is the default)")
        if scale not in SCALES:
            raise ValueError(f"scale={scale!r}: expected 'gamma' (as published) or 'optimal' (least squares)")
        self.rho_s, self.scale = rho_s, scale
        self.register_buffer("gamma_ema", torch.full(self.scale_shape, NONE_YET, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return straight_through(weight, self.quantise_)

    def quantise_(self, weight: Tensor) -> None:
        """Overwrite ``weight`` by its quantised values; in training, the state moves on before."""
        full = exact(weight)
        magnitude = full.abs()
        advancing = self.training and not recomputing()
        gamma = self.advance(magnitude) if advancing else self.gamma_of(magnitude)
        signs, scale = self.signs_and_scale(full, magnitude, gamma)
        weight.copy_(signs.mul_(scale)) if full.dtype != weight.dtype else signs.mul_(scale)

    @torch.no_grad()
    def trits(self, weight: Tensor) -> Ternary:
        full = exact(weight).clone()
        magnitude = full.abs()
        signs, scale = self.signs_and_scale(full, magnitude, self.gamma_of(magnitude))
        return Ternary(signs.to(torch.int8), scale.to(weight.dtype), scale.to(weight.dtype))

    def signs_and_scale(self, weight: Tensor, magnitude: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """-1., +0. or 1. for each weight, written over it, and the scale of ``scale_shape``."""
        if self.scale == "gamma":
            return self.signs_(weight, magnitude, gamma), gamma
        signs = self.signs_(weight, magnitude.clone(), gamma)
        kept = signs.abs()
        return signs, self.reduce(magnitude * kept, torch.sum) / self.reduce(kept, torch.sum).clamp_min(1)

    def signs_(self, weight: Tensor, magnitude: Tensor, gamma: Tensor) -> Tensor:
        """Overwrite ``weight`` with -1., +0. or 1. (never -0.) and return it; |weight| may be spoilt."""
        raise NotImplementedError

    def gamma(self, weight: Tensor) -> Tensor:
        """gamma of ``scale_shape``: as of the last training forward, or of ``weight`` before the first; >= 1e-6."""
        with torch.no_grad():
            return self.gamma_of(exact(weight).abs())

    def gamma_of(self, magnitude: Tensor) -> Tensor:
        """``gamma``, of |weight|."""
        mean = self.reduce(magnitude).float()
        return torch.where(self.gamma_ema < 0, mean, self.gamma_ema).clamp_min_(LEAST_SCALE)

    def advance(self, magnitude: Tensor) -> Tensor:
        """Move the state on by one training forward, and return its gamma."""
        mean = self.reduce(magnitude).float()
        moved = torch.lerp(mean, self.gamma_ema, self.rho_s)
        self.gamma_ema.copy_(torch.where(self.gamma_ema < 0, mean, moved))
        return self.gamma_ema.clamp_min(LEAST_SCALE)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"rho_s={self.rho_s}, scale={self.scale!r}", super().extra_repr()]))
