"""The published search for null directions: v <- Hv / ||Hv||, a power iteration, which ends at the sharpest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from chimera_lib.prion.hessian.product import HessianProduct

DIRECTIONS, ITERATIONS, NULL = 10, 50, 1e-6


def published_directions(
    product: HessianProduct,
    *,
    count: int = DIRECTIONS,
    iterations: int = ITERATIONS,
    generator: torch.Generator,
) -> Tensor:
    """The directions that the published experiment takes for null ones, shape (count, P), fp32, on the CPU.

    Each starts at random. An iteration makes it orthogonal to those found before, multiplies by H and scales to unit
    length, and it ends early only where ||Hv|| < 1e-6. Multiplying by H strengthens what has a large eigenvalue, so
    this converges to the eigenvectors of the largest |eigenvalue| and away from the null space.

    Args:
        product: of the Hessian; the published one is on 64 random tokens, labels shifted twice.
        count: how many directions; 10, or 3 for models of over a billion parameters.
        iterations: at most so many for each.
        generator: of the starts, on the CPU.

    Source: the published experiment; for what it computes, Golub and Van Loan, Matrix Computations, section 8.2.1.
    """
    found = torch.empty(0, product.size)
    for _ in range(count):
        vector = torch.randn(product.size, generator=generator)
        vector /= vector.norm()
        for _ in range(iterations):
            vector = vector - found.T @ (found @ vector)
            image = product(vector)
            length = image.norm()
            if length < NULL:
                break
            vector = image / length
        found = torch.cat([found, vector[None]])
    return found
