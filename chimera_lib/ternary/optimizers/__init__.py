"""Optimizers by name: Chimera 2.1 as published and mended, and the peers that every comparison shows beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.optimizers.cautious import CautiousAdamW
from chimera_lib.ternary.optimizers.chimera21 import Chimera21
from chimera_lib.ternary.optimizers.grams import Grams
from chimera_lib.ternary.optimizers.lion import Lion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.optimizer import ParamsT

__all__ = ["LEARNING_RATES", "OPTIMIZERS", "CautiousAdamW", "Chimera21", "Entry", "Grams", "Lion", "build"]

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # one grid for all: half decades


@dataclass(frozen=True)
class Entry:
    """A named optimizer: how it is made, and the learning rates it is tuned over."""

    make: Callable[..., Optimizer]
    options: Mapping[str, Any] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = LEARNING_RATES


OPTIMIZERS: dict[str, Entry] = {  # none has weight decay unless it is asked for, or the peers would differ in that
    "adamw": Entry(torch.optim.AdamW, {"weight_decay": 0.0}),
    "cautious_adamw": Entry(CautiousAdamW),
    "grams": Entry(Grams),
    "lion": Entry(Lion),
    "sgd_momentum": Entry(torch.optim.SGD, {"momentum": 0.9}),
    "chimera21": Entry(Chimera21),
    "chimera21_neutral": Entry(Chimera21, {"neutral": "floor"}),
    "chimera21_mean": Entry(Chimera21, {"neutral": "mean"}),
    "chimera21_previous": Entry(Chimera21, {"agreement": "previous"}),
    "chimera21_int8": Entry(Chimera21, {"psi_storage": "int8"}),
}


def build(name: str, params: ParamsT | Iterable[Tensor], lr: float, **options: Any) -> Optimizer:
    """Make a named optimizer; ``options`` go to its constructor, over those of its entry.

    Raises:
        UnknownName: no optimizer is called so.
    """
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    entry = OPTIMIZERS[name]
    return entry.make(params, lr=lr, **{**entry.options, **options})
