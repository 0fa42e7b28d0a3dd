"""Grams: Adam's magnitude in the gradient's direction (Cao, Li and Song 2024, arXiv 2412.17107, Algorithm 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.ternary.optimizers.elementwise import Elementwise

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import ParamsT

__all__ = ["Grams"]


class Grams(Elementwise):
    """θ ← θ - lr·sign(g)·\\|m̂/(√v̂+ε)\\|, with decoupled weight decay."""

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
        return self.adam(grad, state, group).abs_().mul_(grad.sign())
