"""``strict_bitnet``: q = clip(round(W / gamma), -1, 1) (Ma et al. 2024, "The Era of 1-bit LLMs", eq. 1-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.ternary.quantizers.gamma import GammaQuantizer

if TYPE_CHECKING:
    from torch import Tensor


class BitNetQuantizer(GammaQuantizer):
    """BitNet b1.58's codes over the running gamma. Takes GammaQuantizer's arguments; ``rho_s=0`` is BitNet's own gamma.

    Rounding is to even, so that a weight of exactly gamma / 2 becomes 0: these are the codes of ``chimera`` at a
    fixed alpha of .5.
    """

    def signs_(self, weight: Tensor, magnitude: Tensor, gamma: Tensor) -> Tensor:  # noqa: ARG002
        return weight.div_(gamma).round_().clamp_(-1, 1).add_(0.0)  # which makes +0 of -0
