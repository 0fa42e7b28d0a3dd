"""How many directions a cloud of hidden states uses: ranks and gaps of its singular values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CUT = 0.01
"""Share of the sum below which the published measure drops a singular value."""


def singular_values(states: Tensor, *, centred: bool = True) -> Tensor:
    """Singular values of states (N, d), falling, shape (min(N, d),), float64; centred: each column's mean taken off."""
    rows = states.double()
    if centred:
        rows = rows - rows.mean(0)
    return torch.linalg.svdvals(rows)


def effective_rank(values: Tensor) -> float:
    """Exponential of the entropy of the singular values' shares: between 1 and their number.

    Source: Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007, eqs. 1 to 3.
    """
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def published_rank(values: Tensor) -> float:
    """The published measure: the same, of those shares alone that pass `CUT`, which then no longer sum to 1."""
    shares = values / values.sum()
    shares = shares[shares > CUT]
    return float(torch.exp(-(shares * (shares + 1e-10).log()).sum())) if len(shares) else 0.0


def participation_ratio(values: Tensor) -> float:
    """(sum of variances)^2 / sum of squared variances: the number of directions, were all of them used equally."""
    variances = values**2
    return float(variances.sum() ** 2 / (variances**2).sum())


def stable_rank(values: Tensor) -> float:
    """Squared Frobenius norm over squared spectral norm, at least 1."""
    return float((values**2).sum() / values[0] ** 2)


def spectral_gap(values: Tensor) -> float:
    """Largest over second largest variance, at least 1; infinite where one direction is all there is."""
    if len(values) < 2 or values[1] ** 2 < 1e-10 * max(1.0, float(values[0] ** 2)):
        return float("inf")
    return float((values[0] / values[1]) ** 2)


def weight_rank(matrices: Sequence[Tensor]) -> float:
    """Mean effective rank of weight matrices, each of them as it is."""
    ranks = [effective_rank(torch.linalg.svdvals(matrix.detach().float())) for matrix in matrices]
    return sum(ranks) / len(ranks)
