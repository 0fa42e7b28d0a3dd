"""``lsq``: a learnt step (Esser et al. 2020, "Learned Step Size Quantization", ICLR), with the three levels -1, 0, 1.

q = s round(clip(W / s, -1, 1)), i.e. Q_N = Q_P = 1 in the paper's equations 1 and 2. dq/ds is round(W/s) - W/s inside
the clip and +-1 outside (eq. 3); dq/dW is 1 inside and 0 outside (eq. 5). The gradient of s is multiplied by
1 / sqrt(N Q_P), N weights to a step, and s starts as 2 mean|W| / sqrt(Q_P) (sections 2.1 and 2.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chimera_lib.ternary.quantizers.protocol import LEAST_SCALE, Quantizer, Ternary, exact


class LsqQuantizer(Quantizer):
    """Learned step size quantization to three levels.

    Args:
        weight: the weight that will be quantized; the step starts at twice its mean magnitude.
        per_channel: a step for each output channel; the paper has one for each layer.

    A step that training drives to 1e-6 or below acts as 1e-6: the paper leaves open what a negative one would mean.
    """

    def __init__(self, weight: Tensor, *, per_channel: bool = False) -> None:
        super().__init__(weight, per_channel=per_channel)
        with torch.no_grad():
            start = 2 * self.reduce(exact(weight).abs())
        self.step = nn.Parameter(start.clamp_min(LEAST_SCALE).to(weight.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return LearnedStep.apply(weight, self.step.to(weight.dtype))

    @torch.no_grad()
    def trits(self, weight: Tensor) -> Ternary:
        step = self.step.detach().to(weight.dtype).clamp_min(LEAST_SCALE)
        return Ternary((weight.detach() / step).clamp_(-1, 1).round_().to(torch.int8), step, step)


class LearnedStep(torch.autograd.Function):
    """Equations 1 and 2 forward, equations 3 and 5 backward."""

    @staticmethod
    def forward(weight: Tensor, step: Tensor) -> Tensor:
        step = step.clamp_min(LEAST_SCALE)
        return (weight / step).clamp_(-1, 1).round_().add_(0.0).mul_(step)  # + 0 makes +0 of -0

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, step = ctx.saved_tensors
        ratio = weight / step.clamp_min(LEAST_SCALE)
        inside = ratio.abs().lt_(1)
        slope = ratio.clamp(-1, 1).round_().sub_(ratio.mul_(inside))  # round(r) - r inside, +-1 outside
        per_step = weight.numel() / step.numel()
        return inside.mul_(grad), slope.mul_(grad).sum_to_size(step.shape) / per_step**0.5
