"""What every optimizer here asks of a gradient before it touches any state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from chimera_lib.errors import BadGradient

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_finite", "dense"]


def dense(optimizer: str, groups: Sequence[dict[str, Any]], number: int) -> list[tuple[Tensor, Tensor]]:
    """The parameters of group ``number`` that have a gradient and at least one element, each with its gradient.

    Raises:
        BadGradient: a gradient is sparse or complex.
    """
    group, found = groups[number], []
    for place, parameter in enumerate(group["params"]):
        grad = parameter.grad
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise BadGradient(
                f"{_name(group, number, place)} has a sparse gradient; {optimizer} needs dense ones: "
                "give it to torch.optim.SparseAdam, or build its layer with sparse=False"
            )
        if grad.is_complex():
            raise BadGradient(
                f"{_name(group, number, place)} has a complex gradient, for which agreement in sign is not defined; "
                f"{optimizer} needs real ones: optimise torch.view_as_real of it"
            )
        if parameter.numel():
            found.append((parameter, grad))
    return found


def check_finite(optimizer: str, groups: Sequence[dict[str, Any]], total: Tensor) -> None:
    """Refuse gradients that hold NaN or infinity.

    Args:
        total: the sum of all the elements of all gradients (no dimensions). It is finite if they are, but for sums
            that overflow: only where it is not finite is each gradient looked at.

    Raises:
        BadGradient: naming the first parameter concerned. No state has been changed.
    """
    if bool(torch.isfinite(total)):
        return
    for number, group in enumerate(groups):
        if group.get("check_finite") is False:
            continue
        for place, parameter in enumerate(group["params"]):
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                bad = int((~torch.isfinite(parameter.grad)).sum())
                raise BadGradient(
                    f"{_name(group, number, place)} has a gradient with {bad} of {parameter.numel()} elements NaN or "
                    f"infinite; expected finite ones: lower the learning rate, clip, skip the batch, or "
                    f"let {optimizer} run on with check_finite=False"
                )


def _name(group: dict[str, Any], number: int, place: int) -> str:
    names = group.get("param_names")
    shape = tuple(group["params"][place].shape)
    return f"parameter {names[place] if names else f'{place} of group {number}'} {shape}"
