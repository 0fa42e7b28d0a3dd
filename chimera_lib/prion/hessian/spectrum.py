"""The Hessian's spectrum: its ends by Lanczos, and its density by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from torch import Tensor

    from chimera_lib.prion.hessian.product import HessianProduct


def operator(product: HessianProduct) -> LinearOperator:
    """The product as scipy takes it, fp32."""

    def multiply(vector: np.ndarray) -> np.ndarray:
        return product(torch.from_numpy(np.ascontiguousarray(vector.reshape(-1), dtype=np.float32))).numpy()

    return LinearOperator((product.size, product.size), matvec=multiply, rmatvec=multiply, dtype=np.float32)


def ends(
    product: HessianProduct,
    count: int = 1,
    *,
    which: Literal["LA", "SA", "LM"] = "LM",
    tolerance: float = 1e-3,
    generator: torch.Generator,
) -> tuple[np.ndarray, Tensor]:
    """Eigenvalues at an end of the spectrum and their eigenvectors, by ARPACK.

    Args:
        product: of the Hessian.
        count: how many.
        which: LA the largest, SA the smallest (most negative), LM the largest by absolute value.
        tolerance: relative accuracy of the values.
        generator: of the start vector, on the CPU.

    Returns:
        The values, shape (count,), largest absolute value first, and the vectors (count, P), orthonormal, fp32.

    Source: Lehoucq, Sorensen and Yang, ARPACK Users' Guide, 1998.
    """
    start = torch.randn(product.size, generator=generator).numpy()
    values, vectors = eigsh(operator(product), k=count, which=which, tol=tolerance, v0=start)
    order = np.argsort(-np.abs(values))
    return values[order], torch.from_numpy(np.ascontiguousarray(vectors[:, order].T))


@dataclass(frozen=True)
class Density:
    """Where the eigenvalues lie: weighted points, those of all probes together.

    Attributes:
        values: places on the axis of eigenvalues, shape (n,), ascending.
        weights: share of the eigenvalues each stands for, sums to 1.
        probes: random vectors that it rests on.
    """

    values: np.ndarray
    weights: np.ndarray
    probes: int

    def share(self, threshold: float) -> float:
        """Share of the eigenvalues of absolute value below a threshold, in [0, 1]."""
        return float(self.weights[np.abs(self.values) < threshold].sum())

    @property
    def root_mean_square(self) -> float:
        """Root mean square of the eigenvalues, which is what a random direction's ||Hv|| / ||v|| is about."""
        return float(np.sqrt((self.weights * self.values**2).sum()))


def density(product: HessianProduct, *, probes: int = 3, steps: int = 40, generator: torch.Generator) -> Density:
    """Estimate the density of the spectrum by stochastic Lanczos quadrature.

    From each random vector, `steps` steps of Lanczos give a tridiagonal matrix; its eigenvalues are the places, the
    squared first entries of its eigenvectors the weights. Moments up to the order 2 steps - 1 are exact for the
    vectors drawn. Takes steps times P numbers of memory on the CPU.

    Args:
        product: of the Hessian.
        probes: random vectors, at least 1.
        steps: Lanczos steps from each, at least 1.
        generator: of the vectors, on the CPU.

    Source: Ghorbani, Krishnan and Xiao, An investigation into neural net optimization via Hessian eigenvalue
    density, ICML 2019, section 2.
    """
    if probes < 1 or steps < 1:
        raise ChimeraError(f"{probes} probes of {steps} steps: expected at least 1 of each")
    places, weights = [], []
    for _ in range(probes):
        diagonal, beside = lanczos(product, torch.randn(product.size, generator=generator), steps)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        places.append(values)
        weights.append(vectors[0] ** 2 / probes)
    where, share = np.concatenate(places), np.concatenate(weights)
    order = np.argsort(where)
    return Density(where[order], share[order], probes)


def lanczos(product: HessianProduct, start: Tensor, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The tridiagonal matrix of Lanczos with full reorthogonalisation: diagonal (m,) and off-diagonal (m - 1,).

    m is `steps`, or fewer where the vectors span an invariant subspace.
    """
    basis = torch.empty(min(steps, product.size), product.size)
    vector = (start / start.norm()).float()
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(len(basis)):
        basis[step] = vector
        image = product(vector)
        size = float(image.norm())
        diagonal.append(float(vector.double() @ image.double()))
        for _ in range(2):  # twice is enough
            image = image - basis[: step + 1].T @ (basis[: step + 1] @ image)
        length = float(image.norm())
        if length <= 1e-6 * size or step + 1 == len(basis):
            break
        beside.append(length)
        vector = image / length
    return np.asarray(diagonal), np.asarray(beside[: len(diagonal) - 1])
