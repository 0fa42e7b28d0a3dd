"""Figures of the stress suite: rows stand where their numbers say, and a divergence is named."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pytest

from chimera_lib.ternary.experiments.optimizer_comparison import Row, compare
from chimera_lib.ternary.experiments.trial import Task, Trial
from chimera_lib.ternary.figures import stress as figures
from chimera_lib.ternary.optimizers import LEARNING_RATES


def rows(spread: float, *, diverging: str = "", tuned: bool = False) -> list[Row]:
    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        if name == diverging:
            return Trial(math.inf, math.nan, 776, 0, 97, diverged_at=1)
        factor = {"lion": spread, "grams": 1 / spread}.get(name, 1.0)
        return Trial(factor * (1 + 0.01 * seed * (name == "lion")) * (1 + abs(math.log(lr / 0.01))), 0.1, 776, 97, 97)

    how = {"tuning_seeds": [50]} if tuned else {"learning_rate": 0.01}
    return compare(Task("saddle", steps=1), ["lion", "grams"], seeds=range(4), runner=runner, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("spread", [1.002, 1.2, 3.0, 40.0, 5000.0])
def test_differences_hold_every_bar_and_a_few_plain_ticks(spread: float) -> None:
    figure = figures.differences({"one": rows(spread)})
    figure.canvas.draw()
    (axis,) = figure.axes
    low, high = axis.get_xlim()
    assert low < 1 / spread and high > spread
    assert [text.get_text() for text in axis.get_yticklabels()] == ["lion", "grams"]  # AdamW is the line at 1
    ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 9 and any(abs(tick - 1) < 1e-9 for tick in ticks)
    plt.close(figure)


def test_a_divergence_is_named() -> None:
    figure = figures.differences({"one": rows(2.0, diverging="grams"), "two": rows(2.0), "three": rows(2.0)})
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["diverged"]
    assert len(figure.axes) == 4 and not figure.axes[3].axison
    plt.close(figure)


def test_tuning_curves_mark_the_choice_and_leave_out_divergence() -> None:
    made = rows(2.0, tuned=True)
    figure = figures.tuning_curves({"one": made}, ["adamw", "lion"])
    curve, mark = figure.axes[0].lines[:2]
    assert list(curve.get_xdata()) == list(LEARNING_RATES)
    assert [float(x) for x in mark.get_xdata()] == [0.01] == [made[0].learning_rate]
    plt.close(figure)
    diverged = figures.tuning_curves({"one": rows(2.0, diverging="lion", tuned=True)}, ["adamw", "lion"])
    assert len(diverged.axes[0].lines) == 2  # AdamW's curve and mark
    plt.close(diverged)


def test_memory_is_by_weight() -> None:
    table = figures.memory(rows(2.0))
    assert [row["state, bytes a weight"] for row in table] == [8, 8, 8]
    assert table[1]["of it ψ"] == 1
