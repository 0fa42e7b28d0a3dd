"""The published search for null directions finds the sharpest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib.prion.hessian.published_search import published_directions

if TYPE_CHECKING:
    from chimera_lib.prion.hessian.product import HessianProduct


def test_it_finds_the_sharpest_direction(product: HessianProduct, dense: torch.Tensor) -> None:
    values, vectors = np.linalg.eigh(dense.numpy())
    sharpest = torch.from_numpy(vectors[:, np.abs(values).argmax()])
    found = published_directions(product, count=3, generator=torch.Generator().manual_seed(1))
    assert found.shape == (3, product.size)
    assert abs(float(found[0].double() @ sharpest)) == pytest.approx(1, abs=1e-3)
    curvature = (dense @ found.double().T).norm(dim=0)
    everywhere = np.sqrt((values**2).mean())
    assert (curvature > 5 * everywhere).all()  # the opposite of null: far sharper than a random direction
    assert product.products == 3 * 50


def test_it_keeps_a_vector_that_really_is_null() -> None:
    class Flat:
        size = 5

        def __call__(self, vector: torch.Tensor) -> torch.Tensor:
            return 0 * vector

    found = published_directions(Flat(), count=2, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert found.norm(dim=1)[0] == pytest.approx(1, abs=1e-6)
    assert float(found[0] @ found[1]) == pytest.approx(0, abs=1e-6)
