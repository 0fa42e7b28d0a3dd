"""Figures of the ablation show every cell, effect and source, and pair only runs that are confounded."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from chimera_lib.ternary.figures import ablation as figures


def rows(seeds: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    crossed = itertools.product(range(seeds), ("adamw", "chimera21"), ("strict_bitnet", "chimera"), ("none", "int8"))
    return [
        {"seed": seed, "optimizer": o, "mode": m, "activation": a, "diverged": False}
        | {"accuracy": 0.5 + 0.01 * seed - 0.05 * (m == "chimera") + 0.001 * rng.standard_normal()}
        for seed, o, m, a in crossed
    ]


def test_every_cell_has_its_dots_and_its_mean() -> None:
    figure = figures.cells(rows())
    assert [axis.get_title("left") for axis in figure.axes] == ["Activations as they are", "Activations in 8 bits"]
    for axis in figure.axes:
        dots = sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o")  # type: ignore[arg-type]
        assert dots == 2 * 2 * 3
        low, high = sorted(axis.get_ylim())
        assert all(low < y < high for line in axis.lines if line.get_marker() == "o" for y in line.get_ydata())  # type: ignore[union-attr]
    plt.close(figure)


def test_effects_and_sources_are_named() -> None:
    figure = figures.main_effects(rows())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Chimera 2.1 − AdamW", "Chimera − BitNet", "activations in 8 bits − as they are"]  # noqa: RUF001
    plt.close(figure)
    figure = figures.variance(rows())
    bars = [bar.get_width() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert sum(bars) == pytest.approx(100) and len(bars) == 9
    assert max(bars) == bars[1]  # the weights, where the effect was planted
    plt.close(figure)


def test_confounded_pairs_differ_in_seed_and_optimizer() -> None:
    found = figures.confounded_differences(rows(), "chimera", "strict_bitnet")
    assert len(found) == (2 * 2 * 3) * (1 * 2)  # each run meets one other optimizer and two seeds
    assert found.mean() == pytest.approx(-0.05, abs=0.002) and np.ptp(found) > 0.035  # seeds add .02 either way
    for seeds in (1, 3):
        figure = figures.confounded(rows(seeds))
        assert figure.axes[0].get_xlabel() == "Chimera less BitNet, points of accuracy"
        plt.close(figure)
