"""Cautious AdamW: no step where momentum and gradient disagree (Liang et al. 2024, arXiv 2411.16085, Algorithm 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.ternary.optimizers.elementwise import Elementwise

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import ParamsT

__all__ = ["CautiousAdamW"]

LEAST = 1e-3  # of the mask's mean, so that a step with hardly any agreement is not blown up


class CautiousAdamW(Elementwise):
    """AdamW with its update masked by m·g > 0, and the mask divided by its mean over the parameter."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)

    def _direction(self, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        update = self.adam(grad, state, group)
        mask = (state["exp_avg"] * grad > 0).to(update.dtype)
        return update.mul_(mask.div_(mask.mean().clamp_(min=LEAST)))
