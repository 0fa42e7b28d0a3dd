"""How ψ is kept: as float32, or as one byte that neither stalls nor breaks when a checkpoint is loaded.

A byte holds q = 127ψ. The published scheme rounds to the nearest code, and so ψ stops moving once a step of the
average, 127(1-rho)|a-ψ|, is below one half: at 118/127 for rho = .95, and at 0 for rho ≥ .997. Here a fraction f is
rounded up with probability f, which is right on average whatever rho is. (Error feedback would need a second array
for the error, at more than the bytes that are to be saved.)

The random numbers are a function of the seed, the step and the element's place, so that they need no state beyond
what the optimizer keeps anyway (``seed`` in its groups, ``step`` per parameter) and are the same on every device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROUNDINGS", "STORAGES", "Uncast", "decode", "encode", "new", "shield", "stream", "uniform"]

STORAGES = ("fp32", "int8")
ROUNDINGS = ("stochastic", "as_published")
OWN = ("psi", "psi_floor")  # entries of a state that keep their dtype
CODES = 127  # of either sign


def new(parameter: Tensor, storage: str) -> Tensor:
    """ψ = 0 for a parameter: int8, or float32 (float64 for a float64 parameter; never a half-precision type)."""
    wide = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return torch.zeros_like(parameter, dtype=torch.int8 if storage == "int8" else wide)


def decode(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """ψ = q/127 in ``dtype``."""
    return codes.to(dtype).div_(CODES)


def encode(psi: Tensor, noise: Tensor | None) -> Tensor:
    """Codes of ψ as whole floats in [-127, 127]: ⌊127ψ + u⌋ with ``noise`` u in (0, 1), the nearest without."""
    scaled = psi * CODES
    rounded = scaled.round_() if noise is None else scaled.add_(noise).floor_()
    return rounded.clamp_(-CODES, CODES)


def _mix(x: Tensor) -> Tensor:
    """A bijection of int32 that spreads every bit, in place (the constants of C. Wellons' ``lowbias32``)."""
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def stream(seed: int, step: Tensor | float) -> Tensor:
    """The key of one step's random numbers: int32 without dimensions, on the device of ``step``."""
    counter = torch.as_tensor(step).to(torch.int32)
    start = torch.full_like(counter, ((seed * 0x9E3779B9 + 0x7F4A7C15) & 0xFFFFFFFF) - 2**31)
    return _mix(_mix(start).add_(counter))


def uniform(places: Tensor, key: Tensor) -> Tensor:
    """One number in (0, 1) per place: float32 of the shape of ``places`` (int32).

    Sixteen bits and a half: 127ψ + u is then exact in float32 where ψ has not moved, so that ``freeze`` freezes.
    """
    return _mix(places.bitwise_xor(key)).bitwise_and_(0xFFFF).to(torch.float32).add_(0.5).mul_(2.0**-16)


class Uncast:
    """A tensor that ``Optimizer.load_state_dict`` hands through: it casts tensors to the parameter's dtype.

    Cast so, a code of 99 would come back as ψ = 99.0, and float32 ψ of a bfloat16 parameter would lose 16 bits.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value


def shield(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a state dictionary in which ψ and its floor are shielded from the cast; tensors are not copied."""
    states = {
        key: {name: Uncast(value) if name in OWN else value for name, value in kept.items()}
        if isinstance(kept, dict)
        else kept
        for key, kept in state_dict["state"].items()
    }
    return {**state_dict, "state": states}
