"""Lion: the sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675, Algorithm 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.ternary.optimizers.elementwise import Elementwise

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import ParamsT

__all__ = ["Lion"]


class Lion(Elementwise):
    """θ ← θ - lr·sign(β₁m + (1-β₁)g), then m ← β₂m + (1-β₂)g, with decoupled weight decay."""

    entries = ("exp_avg",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, 0.0, weight_decay, maximize=maximize)

    def _direction(self, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        direction = state["exp_avg"].lerp(grad, 1 - beta1).sign_()
        state["exp_avg"].lerp_(grad, 1 - beta2)
        return direction
