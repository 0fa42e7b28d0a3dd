"""Figures of the analyses: what is drawn is what was measured, and labels name units."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from chimera_lib import plotting
from chimera_lib.images.analysis import criteria, figures, layers, pockets, products


@pytest.fixture(autouse=True)
def closed():
    plotting.style()
    yield
    plt.close("all")


def pocket(name: str, width: int | None) -> pockets.Pocket:
    distances = pockets.grid()
    seen = {sign * d: width is None or d <= width // 2 for d in [0, *distances] for sign in (-1, 1)}
    return pockets.Pocket(1, name, width, (1, width and width), seen, 1e-8, 1e-6)


def test_pockets_draws_a_row_and_a_curve_a_direction() -> None:
    figure = figures.pockets([pocket("one value", 9), pocket("one value", 99), pocket("gradient", 1)])
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["one value", "gradient"]
    assert "ULP" in left.get_xlabel() and "%" in right.get_ylabel()
    shares = right.get_lines()[0].get_ydata()
    assert shares[0] == 100 and shares[-1] == 0
    assert right.get_lines()[0].get_ydata()[9] == 50, "at 16 ULP the wider of the two pockets is left"


def test_layers_draws_each_operation_with_its_terms() -> None:
    each = [
        layers.Layer("a", "conv", 27, np.array([1e-7, 3e-7]), np.array([0.5, 0.7])),
        layers.Layer("b", "batch_norm", 0, np.array([2e-7, 2e-7]), np.array([0.4, 0.4])),
    ]
    figure = figures.layers({"x, y": each})
    top, bottom = figure.axes
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["conv, K = 27", "batch norm"]
    np.testing.assert_allclose(bottom.get_lines()[0].get_ydata(), [60, 40])
    assert top.get_yscale() == "log"


def test_growth_draws_points_line_root_and_bound() -> None:
    k = np.array([27, 128, 512, 1024])
    relative = 1e-8 * np.sqrt(k)[:, None] * np.ones((1, 2))
    one = products.Growth(("x", "y"), "random", k, relative, k * 1e-6, *products.fit(k, relative))
    equal = products.Growth(("x", "z"), "random", k, relative * 0, k * 1e-6, *products.fit(k, relative * 0))
    axis = figures.growth([one, equal]).axes[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[0].startswith("x, y: slope 0.50") and labels[-2:] == ["√K u", "bound"]
    assert "x, z" in labels


def test_criteria_draws_every_interval() -> None:
    rows = [
        {"logits": {"chimera": [1.0, 1.0, 0.1 * i], "natural": [5.0, 0.0, 0.0], "refused": [1.0, 1.0, 0.1 * i]}}
        for i in range(6)
    ]
    summary = criteria.summarise(rows)
    axis = figures.criteria(summary).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["natural images", "refused"]
    assert len(axis.containers) == 2 * len(summary) == 12
    assert next(row["auroc"] for row in summary if row["control"].startswith("refused")) == 0.5
