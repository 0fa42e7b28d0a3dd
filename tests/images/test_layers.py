"""Layers and products: where a difference starts, and how a product's grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor
from chimera_lib.images.analysis import layers, products
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from chimera_lib.images.network import Network


def test_the_difference_starts_in_a_product_and_reaches_the_logits(
    small_network: Network, pictures: np.ndarray
) -> None:
    found = layers.divergence(small_network, pictures[:3], ("openblas", "blis"))
    assert [layer.name for layer in found] == [op["out"] for op in small_network.ops]
    starts = layers.first_different(found)
    assert all(found[place].terms > 0 for place in starts), "all but the products is the same code"
    assert found[-1].relative.min() > 0 and found[-1].relative.max() < 1e-3
    metrics = layers.metrics(found)
    assert metrics["first_difference"]["n"] == 3
    assert metrics["first_layer"].startswith(found[starts[0]].name)
    rows = layers.as_rows(found)
    assert rows[0]["K"] == 27 and rows[1]["K"] is None
    assert "K" in layers.as_text(found)


def test_what_the_logits_show_the_last_layer_shows(small_network: Network, pictures: np.ndarray) -> None:
    for other in ("numpy-openblas", "mkl"):
        found = layers.divergence(small_network, pictures[:2], ("openblas", other))
        with Oracle(small_network, ["openblas", other]) as oracle:
            first, second = oracle(pictures[:2]).logits
        np.testing.assert_array_equal(found[-1].differing, (first != second).mean(1))


def test_wrong_pairs_are_named(small_network: Network, pictures: np.ndarray) -> None:
    with pytest.raises(ChimeraError, match="two different GEMM backends"):
        layers.divergence(small_network, pictures, ("openblas", "openblas"))
    with pytest.raises(ChimeraError, match="torch is a framework"):
        layers.divergence(small_network, pictures[:1], ("openblas", "torch"))


def test_a_product_as_a_network_is_that_product() -> None:
    a, b = products.random_matrices(100, 3, seed=0)
    c = products.multiply(a, b, ["openblas", "blis"])
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 100 * 2.0**-24 / (1 - 100 * 2.0**-24) * (np.abs(a).astype(np.float64) @ np.abs(b))
    assert c.shape == (2, 3, 64, 64)
    assert (np.abs(c - exact) <= bound).all()
    assert np.abs(c - exact).max() > 0


def test_real_matrices_are_what_the_network_multiplies(small_network: Network, pictures: np.ndarray) -> None:
    weight, columns = products.real_matrices(small_network, pictures[:2])
    assert weight.shape == (64, 576) and columns.shape == (2, 576, 64)
    op = next(o for o in small_network.ops if o["op"] == "conv" and layers.terms(small_network, o) == 576)
    run = executor.Executor(small_network.program, small_network.arrays, products.numpy_product)
    out = run.trace(pictures[0])[op["out"]]
    assert out.shape == (64, 8, 8)
    np.testing.assert_allclose(weight @ columns[0], out.reshape(64, 64), rtol=1e-4, atol=1e-4)


def test_a_slope_is_recovered_with_an_interval_that_holds_it() -> None:
    rng = np.random.default_rng(0)
    k = np.array([27, 64, 128, 256, 512, 1024, 2048])
    relative = 1e-8 * k[:, None] ** 0.5 * np.exp(rng.normal(0, 0.05, (7, 8)))
    slope, (low, high) = products.fit(k, relative)
    assert low < 0.5 < high and abs(slope - 0.5) < 0.05
    relative[:3] = 0  # bit-equal: no logarithm
    assert products.fit(k, relative)[0] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(products.fit(k, np.zeros((7, 8)))[0])


def test_growth_stays_below_its_bound_and_is_recorded() -> None:
    (one,) = products.growth(["openblas", "blis"], terms=[32, 128, 512, 1024], draws=2)
    assert one.relative.shape == (4, 2) and (one.relative.mean(1) < one.bound).all()
    assert one.interval[0] < one.slope < one.interval[1]
    assert set(products.metrics([one])) == {
        "random_openblas_blis_slope",
        "random_openblas_blis_difference_at_largest_k",
        "random_openblas_blis_share_of_bound",
    }
    assert products.metrics([one])["random_openblas_blis_slope"]["n"] == 4
    assert "openblas against blis" in products.as_text([one])
    with pytest.raises(ChimeraError, match="2 values of K"):
        products.growth(["openblas", "blis"], terms=[32, 128])
