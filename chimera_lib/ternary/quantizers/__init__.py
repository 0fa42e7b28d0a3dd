"""Ternary quantizers by name: one method to a file, each a ``Quantizer`` (see ``protocol``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.quantizers.bitnet import BitNetQuantizer
from chimera_lib.ternary.quantizers.lsq import LsqQuantizer
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer
from chimera_lib.ternary.quantizers.ttq import TtqQuantizer

if TYPE_CHECKING:
    from torch import Tensor

    from chimera_lib.ternary.quantizers.protocol import Quantizer

QUANTIZERS: dict[str, type[Quantizer]] = {
    "strict_bitnet": BitNetQuantizer,
    "chimera": ThresholdQuantizer,
    "ttq": TtqQuantizer,
    "lsq": LsqQuantizer,
}


def known(mode: str) -> type[Quantizer]:
    """The quantizer called ``mode``. Raises UnknownName, which lists the names, for another."""
    if mode not in QUANTIZERS:
        raise UnknownName("quantizer mode", mode, QUANTIZERS, "fp32_baseline is a network that was not converted")
    return QUANTIZERS[mode]


def build(mode: str, weight: Tensor, **options: Any) -> Quantizer:
    """A quantizer for ``weight``, on its device; ``options`` are those of its class.

    Raises UnknownName for an unknown mode, TypeError for an option that it does not have, ValueError for a bad value.
    """
    kind = known(mode)
    try:
        return kind(weight, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rpartition("argument ")[2]
        raise TypeError(
            f"mode {mode!r} has no option {option}; see chimera_lib.ternary.quantizers.{kind.__name__}"
        ) from None
