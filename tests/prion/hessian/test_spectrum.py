"""The ends and the density of the spectrum against the eigenvalues of the dense Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.hessian import spectrum

if TYPE_CHECKING:
    from chimera_lib.prion.hessian.product import HessianProduct


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_ends(product: HessianProduct, dense: torch.Tensor) -> None:
    exact = np.linalg.eigvalsh(dense.numpy())
    values, vectors = spectrum.ends(product, 2, which="LA", generator=generator())
    assert np.allclose(values, exact[::-1][:2], rtol=1e-2)
    assert np.allclose(np.abs((vectors @ vectors.T).numpy()), np.eye(2), atol=1e-4)
    bottom, _ = spectrum.ends(product, 1, which="SA", generator=generator())
    assert bottom[0] == pytest.approx(exact[0], rel=1e-2)
    assert bottom[0] < 0


def test_density_has_the_moments_of_the_spectrum(product: HessianProduct, dense: torch.Tensor) -> None:
    exact = np.linalg.eigvalsh(dense.numpy())
    found = spectrum.density(product, probes=10, steps=30, generator=generator())
    assert found.weights.sum() == pytest.approx(1, abs=1e-6)
    assert found.root_mean_square == pytest.approx(np.sqrt((exact**2).mean()), rel=0.2)
    assert found.values.max() == pytest.approx(exact.max(), rel=1e-3)
    threshold = 0.5 * found.root_mean_square
    assert found.share(threshold) == pytest.approx((np.abs(exact) < threshold).mean(), abs=0.08)


def test_lanczos_stops_at_an_invariant_subspace() -> None:
    class Two:
        size = 6

        def __call__(self, vector: torch.Tensor) -> torch.Tensor:
            return torch.tensor([3.0, 3, 3, 1, 1, 1]) * vector

    diagonal, beside = spectrum.lanczos(Two(), torch.ones(6), 6)  # type: ignore[arg-type]
    assert (len(diagonal), len(beside)) == (2, 1)
    assert np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)) == pytest.approx([1, 3])


def test_refuses(product: HessianProduct) -> None:
    with pytest.raises(ChimeraError, match="0 probes"):
        spectrum.density(product, probes=0, generator=generator())
