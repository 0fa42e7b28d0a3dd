"""Refusing integers that would be looked up where there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    import torch


def check(what: str, values: torch.Tensor, count: int, hint: str = "") -> None:
    """Raise ChimeraError unless values are integers from 0 to count - 1; `what` and `hint` go into the message."""
    if values.is_floating_point() or values.is_complex():
        raise ChimeraError(f"{what} are {values.dtype}; expected integers")
    if not values.numel():
        return
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= count:
        raise ChimeraError(f"{what} from {low} to {high}; expected 0 to {count - 1}{hint}")
