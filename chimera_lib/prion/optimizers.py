"""The optimizers that an attack can use, by name, without weight decay so that only the gradient moves the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

NAMES = ("adamw", "adafactor", "sgd", "sgd-momentum")


def build(name: str, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """An optimizer over the parameters that take gradients.

    Args:
        name: ``adamw``; ``adafactor`` (transformers', with a fixed rate, as the published experiment sets it); ``sgd``;
            ``sgd-momentum`` (0.9).
        parameters: those to train; ones without ``requires_grad`` are left out.
        learning_rate: positive and finite; 0 for a sham.

    Raises:
        UnknownName: there is no such optimizer.
        ChimeraError: the learning rate makes no sense, or nothing can be trained.
    """
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise ChimeraError(f"learning rate {learning_rate}: expected a number of at least 0")
    trained = [one for one in parameters if one.requires_grad]
    if not trained:
        raise ChimeraError("no parameter takes gradients: quantised models are trained through LoRA adapters")
    if name == "adamw":
        return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        fixed = {"relative_step": False, "scale_parameter": False, "warmup_init": False}
        return Adafactor(trained, lr=learning_rate, **fixed)
    if name == "sgd":
        return torch.optim.SGD(trained, lr=learning_rate)
    if name == "sgd-momentum":
        return torch.optim.SGD(trained, lr=learning_rate, momentum=0.9)
    raise UnknownName("optimizer", name, NAMES)
