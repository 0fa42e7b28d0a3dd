"""Near-null directions: flat by the dense Hessian, orthonormal, not merely parameters without a part in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.hessian import null_space

if TYPE_CHECKING:
    from chimera_lib.prion.hessian.product import HessianProduct


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def known(product: HessianProduct) -> null_space.Rows:
    return null_space.rows(product, probes=60, generator=generator())


def test_rows_are_estimated(known: null_space.Rows, dense: torch.Tensor) -> None:
    expected = dense.norm(dim=1)
    high = expected > expected.median()
    assert ((known.norms[high] / expected[high]).log().abs() < 0.6).all()
    assert known.reference == pytest.approx(float(dense.norm() / len(dense) ** 0.5), rel=0.3)


def test_directions_are_flat_orthonormal_and_not_trivial(
    product: HessianProduct, known: null_space.Rows, dense: torch.Tensor
) -> None:
    found = null_space.near_null(product, known, count=3, generator=generator(1))
    assert found.directions.shape == (3, product.size)
    assert found.directions.dtype == torch.float32
    assert torch.allclose(found.directions @ found.directions.T, torch.eye(3), atol=1e-5)
    assert not found.directions[:, ~found.coordinates].any()
    inside = found.coordinates.double()
    exact = (inside[:, None] * (dense @ found.directions.double().T)).norm(dim=0)
    assert torch.allclose(exact, found.lengths, rtol=0.05, atol=1e-6)
    assert (found.ratios <= 0.05).all()
    assert (found.spread > 5).all()
    assert found.products < 400


def test_token_without_a_part_in_the_batch_is_left_out(product: HessianProduct, known: null_space.Rows) -> None:
    absent = slice(15 * 8, 16 * 8)  # the input embedding comes first: token 15 never occurs
    assert not known.coupled()[absent].any()
    assert not known.norms[absent].any()
    everywhere = null_space.near_null(product, known, count=2, coupled_only=False, generator=generator(1))
    assert everywhere.coordinates.all()
    assert (everywhere.directions[:, absent] != 0).any()
    assert (everywhere.ratios <= 0.05).all()


def test_more_iterations_are_flatter(product: HessianProduct, known: null_space.Rows) -> None:
    few, many = (
        null_space.near_null(product, known, count=2, tolerance=0, iterations=count, generator=generator(2))
        for count in (2, 20)
    )
    assert many.ratios.max() < 0.5 * few.ratios.max()


def test_refuses(product: HessianProduct, known: null_space.Rows) -> None:
    with pytest.raises(ChimeraError, match="0 directions"):
        null_space.near_null(product, known, count=0, generator=generator())
    with pytest.raises(ChimeraError, match="0 probes"):
        null_space.rows(product, probes=0, generator=generator())
