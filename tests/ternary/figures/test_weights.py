"""The figures of weights: what they draw is what they were given, and they render."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from chimera_lib import plotting
from chimera_lib.ternary.experiments.weight_sweep import Point, point
from chimera_lib.ternary.figures import weights as figures

VALUES = np.random.default_rng(0).normal(0, 1 / 0.8, 5000)


@pytest.fixture(autouse=True)
def closing():
    yield
    plt.close("all")


def test_distributions_draw_every_layer() -> None:
    figure = figures.distributions({"a": VALUES, "b": VALUES / 2}, {"a": [0.1, 2.0], "b": [-1.0]})
    top, bottom = figure.axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["a", "b", "Gaussian"]
    assert [len(line.get_xdata()) for line in bottom.lines] == [2, 1, 2]
    assert plotting.png(figure, dpi=40)


def test_the_gaussian_density_has_mean_magnitude_one() -> None:
    x = np.linspace(-12, 12, 100_001)
    density = figures.gaussian_density(x)
    assert np.trapezoid(density, x) == pytest.approx(1)
    assert np.trapezoid(density * np.abs(x), x) == pytest.approx(1, abs=1e-6)


def test_the_sweep_marks_both_minima() -> None:
    points = [Point(a, a / 2, 1.5 - a / 4, 0.3 + a / 10, 0.2 + a / 10, 1.5) for a in (0.0, 0.5, 1.0)]
    figure = figures.alpha_sweep({"layer": points}, 0.7)
    marked = [line.get_xdata()[0] for line in figure.axes[2].lines if line.get_marker() == "o"]
    assert marked == pytest.approx([0.5, 0.767], abs=1e-3)
    assert plotting.png(figure, dpi=40)


def test_a_frame_greys_what_becomes_zero() -> None:
    import torch

    figure = figures.threshold_frame(VALUES, point(torch.from_numpy(VALUES), 1.0))
    (axis,) = figure.axes
    grey = [bar for bar in axis.patches if plt.matplotlib.colors.to_hex(bar.get_facecolor()) == "#bbbbbb"]
    area = sum(bar.get_height() * bar.get_width() for bar in grey)
    assert area == pytest.approx(np.mean(np.abs(VALUES) <= 1), abs=0.01)
    assert plotting.png(figure, dpi=40)


def test_levels_warm_up_and_overfitting_render() -> None:
    rows = dict.fromkeys(("strict_bitnet", "chimera", "ttq", "lsq"), (VALUES, 0.5, 0.5, 1.0, 1.2))
    figure = figures.levels(rows)
    assert figure.axes[0].get_title() == f"strict_bitnet: {np.mean(np.abs(VALUES) <= 0.5):.0%} zeros"
    assert plotting.png(figure, dpi=40)
    assert plotting.png(figures.warmup([0, 0.1, 0.1, 0.2], [0, 0.05, 0.05, 0.1], (2, 3)), dpi=40)
    figure = figures.overfit({"as published": [[2.3, 2.2], [2.4, 2.3]], "straight-through": [[2.3, 0.2]]})
    assert len(figure.axes[0].lines) == 3 and len(figure.axes[0].get_legend().get_texts()) == 2
