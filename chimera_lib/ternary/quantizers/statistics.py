"""How the three codes are shared out in a tensor, a layer, a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from chimera_lib.ternary.quantizers.protocol import Quantizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

MOST_BITS = math.log2(3)


@dataclass(frozen=True)
class Statistics:
    """Counts of the codes 0, 1 and -1."""

    zeros: int
    pluses: int
    minuses: int

    @property
    def numel(self) -> int:
        """Number of weights."""
        return self.zeros + self.pluses + self.minuses

    @property
    def zero_ratio(self) -> float:
        """Share of weights that are 0; NaN where there are no weights."""
        return self.zeros / self.numel if self.numel else math.nan

    @property
    def plus_ratio(self) -> float:
        """Share of weights that are 1."""
        return self.pluses / self.numel if self.numel else math.nan

    @property
    def minus_ratio(self) -> float:
        """Share of weights that are -1."""
        return self.minuses / self.numel if self.numel else math.nan

    @property
    def effective_bits(self) -> float:
        """Shannon entropy of the three shares, 0 ... log2 3 bits to a weight.

        It is an entropy, not storage: the bound that an ideal entropy coder would come near. A weight that is kept
        in two bits takes two, five in a byte take 1.6 each, whatever this number is.
        """
        return entropy(self.zero_ratio, self.plus_ratio, self.minus_ratio)

    def record(self) -> dict[str, float]:
        """The fields of a log line."""
        names = ("zero_ratio", "plus_ratio", "minus_ratio", "effective_bits")
        return {name: getattr(self, name) for name in names}


def entropy(*shares: float) -> float:
    """Shannon entropy in bits of shares that add up to one; a share of 0 adds nothing."""
    return 0.0 - sum(share * math.log2(share) for share in shares if share != 0)


def count(codes: Tensor) -> Statistics:
    """Statistics of codes -1, 0, 1 of any shape and dtype."""
    pluses, minuses = torch.stack([(codes > 0).sum(), (codes < 0).sum()]).tolist()
    return Statistics(codes.numel() - pluses - minuses, pluses, minuses)


def quantized(model: nn.Module) -> Iterator[tuple[str, Tensor, Quantizer]]:
    """Name, full-precision weight and quantizer of each layer of ``model`` with a ternary weight."""
    for name, module in model.named_modules():
        quantizer = getattr(module, "quantizer", None)
        if isinstance(quantizer, Quantizer):
            yield name, module.get_parameter("weight"), quantizer


def by_layer(model: nn.Module) -> dict[str, Statistics]:
    """Statistics of each ternary layer by its name, as the last forward used it; empty where there is none."""
    return {name: count(quantizer.trits(weight).codes) for name, weight, quantizer in quantized(model)}


def pooled(layers: Iterable[Statistics]) -> Statistics:
    """Statistics of all weights together: every weight counts once, so that layers count by their size."""
    layers = list(layers)
    return Statistics(*(sum(getattr(s, name) for s in layers) for name in ("zeros", "pluses", "minuses")))


def unweighted(layers: Iterable[Statistics]) -> dict[str, float]:
    """Mean of each of the layers' fields, every layer counting once; NaN where there is none."""
    records = [layer.record() for layer in layers]
    names = Statistics(0, 0, 0).record()
    return {name: sum(r[name] for r in records) / len(records) if records else math.nan for name in names}
