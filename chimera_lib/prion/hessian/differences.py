"""The Hessian product by differences of the gradient in double precision: slow, without second derivatives."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from chimera_lib.prion.hessian.parameters import gradient, trainable, unflat

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chimera_lib.prion.batches import Batch


def differenced(
    model: nn.Module, batch: Batch, vector: Tensor, *, step: float = 1e-3, double_shift: bool = False
) -> Tensor:
    """H v as (g(w + s v) - g(w - s v)) / 2s with s = `step` / ||v||, shape (P,), float64.

    The model is copied and the copy made float64, so that this checks rounding in `HessianProduct` as well. The error
    falls with the square of the step until the logits' single precision in `batches.loss` shows.

    Args:
        model: a causal language model of floating-point weights.
        batch: what the loss is taken of.
        vector: v, shape (P,), over the trainable parameters.
        step: length of the move in the space of the weights.
        double_shift: see `batches.loss`.
    """
    moved = copy.deepcopy(model).double()
    weights = trainable(moved)
    start = [one.detach().clone() for one in weights]
    size = step / float(vector.double().norm())
    pieces = unflat(vector.double(), weights)
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            for one, begin, piece in zip(weights, start, pieces, strict=True):
                one.copy_(begin + sign * size * piece)
        slopes.append(gradient(moved, batch, double_shift=double_shift).detach())
    return (slopes[0] - slopes[1]) / (2 * size)
