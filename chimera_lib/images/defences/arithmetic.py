"""Better or fixed arithmetic: products in float64, everything in float64, one written-down order of summation.

Where the attacker's own torch rounds otherwise than the system, the walk takes its values from the system on
library A, which anybody can run, and only the gradient from torch (``Exact``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.images.defences.defence import Defence, Defended
from chimera_lib.images.defences.surrogates import Exact

if TYPE_CHECKING:
    from torch import nn


class Float64Products(Defence):
    """Each matrix product in the library's float64, rounded to float32 once."""

    name, title = "float64-products", "products in float64"
    suffix = "float64"

    def __init__(self, pair: tuple[str, str]) -> None:
        super().__init__(([f"{pair[0]}:{self.suffix}"], [f"{pair[1]}:{self.suffix}"]))

    def surrogate(self, model: nn.Module, system: Defended) -> nn.Module:
        return Exact(model, lambda images: system.answers(images, 0).logits)


class Float64(Float64Products):
    """Every operation in float64; the logits are rounded to float32 at the end."""

    name, title = "float64", "everything in float64"
    suffix = "all-float64"


class FixedOrder(Defence):
    """One order of single float32 operations, through numpy's newest machine code and through its oldest.

    There is no library left that could differ; the two sides are what a CPU of today and one of 2009 would run.
    """

    name, title = "fixed-order", "one fixed order of summation"

    def __init__(self) -> None:
        super().__init__((["fixed-order"], ["fixed-order:sse"]))
