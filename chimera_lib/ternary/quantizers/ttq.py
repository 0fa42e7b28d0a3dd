"""``ttq``: two learnt scales (Zhu, Han, Mao & Dally 2017, "Trained Ternary Quantization", ICLR; eq. 6 to 8).

q = W_p where W > Delta, -W_n where W < -Delta, else 0, with Delta = t max|W| (eq. 9, t = .05). Gradients are the
paper's: dL/dW_p is the sum of dL/dq over the ones (eq. 7), and dL/dW is dL/dq times W_p, 1 or W_n (eq. 8). For W_n
equation 7 is printed without the minus sign that q = -W_n demands; W_n would climb the loss, so the sign is put back.
The paper also divides W by max|W| before training, which changes no code; here the weight stays as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from chimera_lib.ternary.quantizers.protocol import LEAST_SCALE, Quantizer, Ternary, exact


class TtqQuantizer(Quantizer):
    """Trained ternary quantization.

    Args:
        weight: the weight that will be quantized; the scales start as the means of the magnitudes they stand for.
        threshold: t, share of max|W| below which a weight becomes 0, 0 <= t < 1.
        per_channel: two scales and a threshold for each output channel; the paper has them for each layer.

    Raises ValueError for another threshold.
    """

    def __init__(self, weight: Tensor, *, threshold: float = 0.05, per_channel: bool = False) -> None:
        super().__init__(weight, per_channel=per_channel)
        if not (math.isfinite(threshold) and 0 <= threshold < 1):
            raise ValueError(
                f"threshold={threshold}: expected a share of max|W|, 0 <= threshold < 1; the paper's is 0.05"
            )
        self.threshold = threshold
        with torch.no_grad():
            full = exact(weight)
            above, below, _ = self.sides(full)
            starts = [
                (self.reduce(full.abs() * side, torch.sum) / self.reduce(side.to(full.dtype), torch.sum).clamp_min(1))
                for side in (above, below)
            ]
        self.plus, self.minus = (nn.Parameter(start.clamp_min(LEAST_SCALE).to(weight.dtype)) for start in starts)

    def sides(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which weights become W_p, and which -W_n (bool of the weight's shape); and 0, or NaN if one is not finite."""
        delta = self.threshold * self.reduce(weight.abs(), torch.amax)
        return weight > delta, weight < -delta, 0 * delta

    def forward(self, weight: Tensor) -> Tensor:
        above, below, nothing = self.sides(exact(weight))
        plus, minus = ((scale + nothing).to(weight.dtype) for scale in (self.plus, self.minus))
        return TrainedTernary.apply(weight, plus, minus, above, below)

    @torch.no_grad()
    def trits(self, weight: Tensor) -> Ternary:
        above, below, nothing = self.sides(exact(weight))
        plus, minus = ((scale + nothing).to(weight.dtype) for scale in (self.plus, self.minus))
        return Ternary(above.to(torch.int8) - below.to(torch.int8), plus, minus)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"threshold={self.threshold}", super().extra_repr()]))


class TrainedTernary(torch.autograd.Function):
    """Equation 6 forward, equations 7 and 8 backward."""

    @staticmethod
    def forward(weight: Tensor, plus: Tensor, minus: Tensor, above: Tensor, below: Tensor) -> Tensor:  # noqa: ARG004
        return plus * above - minus * below

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        plus, minus, above, below = ctx.saved_tensors
        # Products with a mask of floats, and no torch.where: a third of the time on a CPU.
        from_plus, from_minus = grad * above.to(grad.dtype), grad * below.to(grad.dtype)
        to_weight = grad.sub(from_plus).sub_(from_minus).add_(from_plus * plus).add_(from_minus * minus)
        return to_weight, from_plus.sum_to_size(plus.shape), -from_minus.sum_to_size(minus.shape), None, None
