"""The frame of the peers: everything of ``torch.optim``'s contract that is not the update itself."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from chimera_lib.ternary.optimizers import gradients

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim.optimizer import ParamsT

__all__ = ["Elementwise"]


class Elementwise(Optimizer):
    """An optimizer that steps parameters one by one, with Adam's options and decoupled weight decay.

    Raises:
        ValueError: an option out of range.
        BadGradient: at ``step``, for sparse and complex gradients.
    """

    entries: tuple[str, ...] = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        *,
        maximize: bool,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        self._check(defaults)
        super().__init__(params, defaults)

    @staticmethod
    def _check(group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            if not 0 <= group[name] < math.inf:
                raise ValueError(f"{name}={group[name]}: expected a finite number of at least 0")
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas={group['betas']}: expected two numbers in [0, 1)")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked as the constructor's are."""
        if isinstance(param_group, dict):
            for name, value in self.defaults.items():
                param_group.setdefault(name, value)
            self._check(param_group)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        work = [gradients.dense(type(self).__name__, groups, number) for number in range(len(groups))]
        for group, pairs in zip(groups, work, strict=True):
            for parameter, grad in pairs:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state.update({name: torch.zeros_like(parameter) for name in self.entries})
                state["step"] += 1
                lr = float(group["lr"])
                if group["weight_decay"] != 0:
                    parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(self._direction(-grad if group["maximize"] else grad, state, group), alpha=-lr)
        return loss

    @abstractmethod
    def _direction(self, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """Advance the state; return what is subtracted from the parameter, lr times."""

    @staticmethod
    def adam(grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """Advance m and v as Adam does; return m̂/(√v̂+ε)."""
        (beta1, beta2), step = group["betas"], state["step"].item()
        m = state["exp_avg"].lerp_(grad, 1 - beta1)
        v = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        root = v.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
        return (m / (1 - beta1**step)).div_(root)
