"""Figures of the gate: drawn from few numbers, they show those numbers and name their axes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from chimera_lib.stats import Interval
from chimera_lib.ternary.figures import gate as figures
from chimera_lib.ternary.optimizers.gate import noise_floor


def labels(figure: plt.Figure) -> list[str]:
    return [axis.get_xlabel() for axis in figure.axes]


def test_floor_shows_what_was_measured_beside_the_theory() -> None:
    course = np.array([0.1, 0.2, 0.3])
    figure = figures.floor(course, course + 0.01, [0.5, 0.9], [0.6, 0.3], [Interval(0.5, 0.7), Interval(0.2, 0.35)])
    left, right = figure.axes
    assert list(left.lines[1].get_ydata()) == list(course)
    curve = right.lines[0]
    assert abs(np.interp(0.9, curve.get_xdata(), curve.get_ydata()) - noise_floor(0.9)) < 0.01
    assert labels(figure) == ["step", "β₁ (memory of the momentum)"]
    plt.close(figure)


def test_signals_have_a_panel_each_and_one_scale() -> None:
    courses = {name: {"a": np.linspace(0, 1, 5), "b": np.linspace(0, -1, 5)} for name in ("constant", "noise")}
    figure = figures.signals(courses)
    assert [axis.get_title() for axis in figure.axes] == ["constant", "noise"]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    assert figure.axes[0].lines[1].get_ydata()[-1] == -1
    plt.close(figure)


def test_kappa_frames_share_their_axis_and_say_their_means() -> None:
    frames = [
        figures.kappa_frame({"one": np.full(50, kappa), "two": np.full(50, 1.0)}, "β₁ = 0.9", (0.9, 1.1))
        for kappa in (1.02, 1.5)
    ]
    assert frames[0].axes[0].get_title("left") == "one: mean κ 1.0200"
    assert {axis.get_xlim() for frame in frames for axis in frame.axes} == {(0.9, 1.1)}
    for frame in frames:  # what lies outside of the axis is drawn at its end, not lost
        for axis in frame.axes:
            assert abs(sum(bar.get_height() for bar in axis.patches) - 1) < 1e-9
        plt.close(frame)


def test_storage_draws_codes() -> None:
    lines = {"float32": np.ones(4), "int8": np.full(4, 118 / 127), "ours": np.ones(4)}
    figure = figures.storage({0.95: lines, 0.997: lines})
    assert round(figure.axes[0].lines[1].get_ydata()[0]) == 118
    assert [axis.get_title() for axis in figure.axes] == [r"$\rho$ = 0.95", r"$\rho$ = 0.997"]
    plt.close(figure)
