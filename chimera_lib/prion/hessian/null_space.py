"""Directions in which the loss has next to no curvature: the smallest singular vectors of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from torch import Tensor

    from chimera_lib.prion.hessian.product import HessianProduct

TRIVIAL = 0.01  # of the root mean square row of H: what lies below is null by itself
FLOOR = 0.03  # of the same: rows below weigh no more in the preconditioner, or single coordinates would take over


@dataclass(frozen=True)
class Rows:
    """What a few random vectors tell of H's rows.

    Attributes:
        norms: estimated Euclidean norm of each row, shape (P,); zero where a parameter has no part in the loss.
        reference: root mean square of ||Hz|| / ||z|| over Gaussian z, which is that of the eigenvalues.
    """

    norms: Tensor
    reference: float

    def coupled(self, trivial: float = TRIVIAL) -> Tensor:
        """The coordinates that are not null by themselves: row above `trivial` times the reference; bool (P,)."""
        return self.norms > trivial * self.reference


@dataclass(frozen=True)
class NullSpace:
    """Near-null directions.

    Attributes:
        directions: orthonormal rows, shape (k, P), fp32, on the CPU; flattest first.
        lengths: ||Hv|| for each, shape (k,), float64 (P H P v where the coordinates are restricted).
        reference: the same for random unit vectors in the same coordinates.
        coordinates: which coordinates were allowed, bool (P,).
        products: Hessian products spent.
    """

    directions: Tensor
    lengths: Tensor
    reference: float
    coordinates: Tensor
    products: int

    @property
    def ratios(self) -> Tensor:
        """||Hv|| / ||H v_random|| for each direction, shape (k,); 1 is what a random direction has."""
        return self.lengths / self.reference

    @property
    def spread(self) -> Tensor:
        """Effective number of coordinates of each direction, 1 / sum v^4, shape (k,), from 1 to P."""
        return 1 / self.directions.double().pow(4).sum(1)


def rows(product: HessianProduct, *, probes: int = 12, generator: torch.Generator) -> Rows:
    """Estimate the norm of each row of H from its products with Gaussian vectors: E (Hz)_i^2 = sum_j H_ij^2.

    Args:
        product: of the Hessian.
        probes: products to spend; each row's norm is good to a factor of about 1 +- sqrt(1 / (2 probes)).
        generator: of the vectors, on the CPU.
    """
    if probes < 1:
        raise ChimeraError(f"{probes} probes: expected at least 1")
    squares = torch.zeros(product.size)
    for _ in range(probes):
        squares += product(torch.randn(product.size, generator=generator)).square() / probes
    return Rows(squares.sqrt(), float(squares.double().mean().sqrt()))


def near_null(
    product: HessianProduct,
    known: Rows,
    *,
    count: int = 4,
    coupled_only: bool = True,
    tolerance: float = 0.05,
    iterations: int = 60,
    generator: torch.Generator,
) -> NullSpace:
    """Find orthonormal directions of small ||Hv||, by LOBPCG on H squared with the rows' norms for preconditioner.

    Minimising ||Hv|| and not v'Hv matters: the latter goes to negative curvature. An embedding row of a token that
    the batch does not hold is null for no other reason, as is the bias of the keys, to which softmax is blind; with
    `coupled_only` such coordinates are left out, and the search is among parameters that have curvature of their own.

    Args:
        product: of the Hessian; with `keep_graph` it takes less time.
        known: of `rows`, for the same product.
        count: k, how many directions.
        coupled_only: leave out coordinates that are null by themselves.
        tolerance: stop when every direction's ratio is below.
        iterations: at most so many, of 2k products each.
        generator: of the starts, on the CPU.

    Raises:
        ChimeraError: there is nothing to search, or more directions are wanted than a third of the coordinates.

    Source: Knyazev, Toward the optimal preconditioned eigensolver: LOBPCG, SIAM J. Sci. Comput. 23 (2001).
    """
    allowed = known.coupled() if coupled_only else torch.ones(product.size, dtype=torch.bool)
    if not 1 <= count <= int(allowed.sum()) // 3:
        raise ChimeraError(f"{count} directions in {int(allowed.sum())} coordinates: expected 1 to a third of those")
    before, inside = product.products, allowed.float()
    reference = float(known.norms[allowed].double().square().mean().sqrt())
    precondition = inside / (known.norms.square() + (FLOOR * known.reference) ** 2)

    def curve(vectors: Tensor) -> Tensor:
        return torch.stack([inside * product(inside * vector) for vector in vectors])

    start = torch.randn(count, product.size, generator=generator) * precondition.sqrt()
    flattest = torch.linalg.qr(start.T)[0].T
    images, last, last_images = curve(flattest), flattest[:0], flattest[:0]
    squares, *_ = values_of(flattest, images, count)
    for _ in range(iterations):
        if bool((squares.sqrt() <= tolerance * reference).all()):
            break
        uphill = (curve(images) - images.square().sum(1, keepdim=True) * flattest) * precondition
        uphill = uphill - (uphill @ flattest.T) @ flattest
        uphill = uphill / uphill.norm(dim=1, keepdim=True)
        basis, basis_images = torch.cat([flattest, uphill, last]), torch.cat([images, curve(uphill), last_images])
        squares, mix = values_of(basis, basis_images, count)
        flattest, images = mix.T @ basis, mix.T @ basis_images
        mix[:count] = 0
        last, last_images = mix.T @ basis, mix.T @ basis_images
        size = last.norm(dim=1, keepdim=True)
        last, last_images = last / size, last_images / size
    turn = torch.linalg.qr(flattest.T.double())[0].T.float()  # rounding has cost it its last digits
    lengths = curve(turn).double().norm(dim=1)
    order = lengths.argsort()
    return NullSpace(turn[order], lengths[order], reference, allowed, product.products - before)


def values_of(basis: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rayleigh-Ritz for H squared: the `count` smallest ||Hv||^2 in a basis, and the mixtures that have them.

    Args:
        basis: rows, shape (m, P), not necessarily orthogonal.
        images: H times each, (m, P).

    Returns:
        The values (count,), float64, ascending, and the mixtures (m, count), fp32, for which v is of unit length.
    """
    overlaps, curved = (basis @ basis.T).double(), (images @ images.T).double()
    sizes, axes = torch.linalg.eigh(overlaps)
    kept = sizes > 1e-7 * sizes.max()  # what rounding cannot tell from dependent
    whiten = axes[:, kept] / sizes[kept].sqrt()
    values, vectors = torch.linalg.eigh(whiten.T @ curved @ whiten)
    return values[:count].clamp(min=0), (whiten @ vectors[:, :count]).float()
