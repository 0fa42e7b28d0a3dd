"""Pockets and directions: widths of pockets whose shape is known, and real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import UnknownName
from chimera_lib.images.analysis import directions, pockets
from chimera_lib.images.oracle import Verdict
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.network import Network
    from chimera_lib.images.oracle import Oracle

IMAGE = np.full((2, 2, 3), 128, np.uint8)
START = np.float32(128) / np.float32(255)


class Interval:
    """Two make-believe backends that disagree where the mean input lies from ``low`` to ``high`` ULP off the start."""

    network: Network
    names = ("a", "b")

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, images: np.ndarray) -> Verdict:
        return self.at(images.astype(np.float32) / np.float32(255))

    def at(self, points: np.ndarray) -> Verdict:
        off = (points.astype(np.float64) - float(START)).mean((1, 2, 3)) / directions.ULP
        inside = (off >= self.low) & (off <= self.high)
        gap = np.where(inside, -1.0, 1.0)
        logits = np.zeros((2, len(points), 2), np.float32)
        logits[0, :, 0], logits[1, :, 0] = 1.0, gap
        return Verdict(self.names, logits)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-3, 5), (-1000, 77), (-20000, 3)])
def test_the_width_of_an_interval_is_found_to_the_ulp(low: int, high: int) -> None:
    gradient = np.ones(IMAGE.shape)
    pocket = pockets.explore(1, IMAGE, gradient, "gradient", Interval(low, high), seed=0, distances=pockets.grid())
    assert pocket.exits == (1 - low, high + 1)
    assert pocket.width == high - low + 1
    assert pocket.slope == pytest.approx(12 * directions.ULP)


def test_a_pocket_without_an_end_in_reach_has_no_width() -> None:
    pocket = pockets.explore(
        1, IMAGE, np.ones(IMAGE.shape), "gradient", Interval(-3, 1e9), seed=0, distances=pockets.grid()
    )
    assert pocket.exits == (4, None) and pocket.width is None
    assert np.isinf(pockets.widths([pocket], "gradient")).all()
    assert pockets.summarise([pocket])[0]["as claimed"] == 0


def test_directions_have_the_geometry_that_they_name() -> None:
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal((8, 8, 3))
    assert np.count_nonzero(directions.one_value(gradient, rng)) == 1
    assert set(np.unique(directions.random(gradient, rng))) == {-1.0, 1.0}
    assert (directions.along_gradient(gradient, rng) * gradient).sum() == pytest.approx(np.abs(gradient).sum())
    assert abs((directions.tangent(gradient, rng) * gradient).sum()) < 1e-9
    with pytest.raises(UnknownName, match="sideways"):
        directions.direction("sideways")


def test_points_are_whole_ulps_away_from_the_image() -> None:
    ones = np.ones((3, *IMAGE.shape)) * np.array([0, 1, -7]).reshape(3, 1, 1, 1)
    off = directions.points(IMAGE, ones).astype(np.float64) - float(START)
    np.testing.assert_array_equal(off[:, 0, 0, 0] / directions.ULP, [0, 1, -7])
    assert pytest.approx(65_793, abs=1) == directions.LEVEL


def test_real_pockets_are_kept_and_taken_up_again(
    small_model: nn.Module, oracle: Oracle, pictures: np.ndarray, tmp_path: Path
) -> None:
    budget = Budget(evaluations=3000, oracle_calls=200)
    image = lattice.search(small_model, pictures[0], oracle, budget, seed=0).chimera
    assert image is not None
    images = {0: image, 1: pictures[1]}  # the second is no chimera and is passed over
    names = ("one value", "gradient")
    found = pockets.measure(small_model, images, oracle, names=names, factor=8, output=tmp_path, progress=False)
    assert [(p.start, p.direction) for p in found] == [(0, "one value"), (0, "gradient")]
    for pocket in found:
        assert pocket.conflicts[0] and not pocket.conflicts[65_793] and pocket.width
    one, steep = found
    assert steep.width <= one.width and abs(steep.slope) > abs(one.slope)
    asked = oracle.calls
    again = pockets.measure(small_model, images, oracle, names=names, factor=8, output=tmp_path, progress=False)
    assert again == found and oracle.calls - asked == 1  # only the other picture was asked about again
    other = {0: pictures[1]}  # what is kept belongs to the image, not to its number
    assert pockets.measure(small_model, other, oracle, names=names, factor=8, output=tmp_path, progress=False) == []
    metrics = pockets.metrics(found * 2)
    assert metrics["gradient_median_ulp"] == {"value": steep.width, "n": 2, "ci": (steep.width, steep.width)}
    assert "one value" in pockets.as_text(found)
    assert [row["median width (ULP)"] for row in pockets.as_rows(found)] == [one.width, steep.width]
