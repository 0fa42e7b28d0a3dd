"""Maps: geometry of a known boundary, codes of who differs, and a real plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.images.analysis import directions, figures, maps
from chimera_lib.images.search import strategy
from chimera_lib.images.search.protocol import Budget
from chimera_lib.plotting import png

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.images.oracle import Oracle


def test_codes_tell_who_differs() -> None:
    predictions = np.array([[[3, 5, 3, 3], [3, 3, 7, 5]], [[3, 5, 5, 3], [5, 3, 7, 5]], [[3, 5, 3, 5], [5, 3, 7, 5]]])
    drawn = maps.Map(("a", "b", "c"), np.arange(4), predictions, (3, 5))
    np.testing.assert_array_equal(drawn.codes(), [[0, 1, 3, 4], [5, 0, 2, 1]])
    assert drawn.conflict.sum() == 3
    assert [figures.who_differs(drawn.names, i) for i in (1, 2, 3)] == ["b differs", "c differs", "a differs"]


def test_a_plane_of_values_moves_two_values_of_median_effect() -> None:
    gradient = np.arange(1.0, 13.0).reshape(2, 2, 3) * np.where(np.arange(12).reshape(2, 2, 3) % 2, -1, 1)
    first, second = maps.plane_of_values(gradient)
    assert first.sum() == second.sum() == 1.0 and not (first * second).any()
    assert {abs((gradient * one).sum()) for one in (first, second)} == {6.0, 7.0}
    with pytest.raises(ChimeraError, match="fewer than two values"):
        maps.plane_of_values(np.zeros((2, 2, 3)))


def test_a_real_plane_has_its_chimera_in_the_middle_and_both_classes_around(
    small_model: nn.Module, oracle: Oracle, pictures: np.ndarray
) -> None:
    budget = Budget(evaluations=3000, oracle_calls=200)
    image = strategy("lattice")(small_model, pictures[0], oracle, budget, seed=0).chimera
    assert image is not None
    gradient = directions.gap_gradient(small_model, image)
    drawn = maps.draw(image, maps.plane_of_values(gradient), oracle, reach=8 * 65_793, side=7)
    assert drawn.conflict[3, 3] and drawn.offsets[3] == 0
    assert set(drawn.predictions[:, 3, 3].tolist()) == set(drawn.classes)
    steep = maps.draw(image, maps.plane_of_gradient(gradient, 0), oracle, reach=65_793, side=3)
    codes = steep.codes()
    assert {codes[1, 0], codes[1, 2]} == {maps.SAME_FIRST, maps.SAME_SECOND}, "the gradient leads across the boundary"
    assert png(figures.boundary_map(drawn, [str(c) for c in range(10)])).startswith(b"\x89PNG")
    with pytest.raises(ChimeraError, match="odd number"):
        maps.draw(image, maps.plane_of_values(gradient), oracle, reach=8, side=4)
