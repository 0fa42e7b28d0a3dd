"""The figures of controllers: what they draw is what they were given, and they render."""

from __future__ import annotations

import pytest
from matplotlib import pyplot as plt

from chimera_lib import plotting
from chimera_lib.ternary.experiments.control import Plan, Trace
from chimera_lib.ternary.figures import control as figures

TRACES = [
    Trace(plan, seed, [0.4, 0.5, 0.6], [[0.3, 0.5], [0.4, 0.6], [0.5, 0.7]], [0.7] * 3, [2.0] * 3)
    for plan in (Plan("none"), Plan("one_shot"), Plan("bang_bang", "epoch"))
    for seed in (0, 1)
]


@pytest.fixture(autouse=True)
def closing():
    yield
    plt.close("all")


@pytest.mark.parametrize(("bits", "marks"), [(1.32, ["0.630", "0.075"]), (0.7, None)])
def test_the_curve_marks_the_branches_that_have_the_target(bits: float, marks: list[str] | None) -> None:
    figure = figures.entropy_curve(bits)
    said = [text.get_text() for text in figure.axes[0].texts if text.get_text().startswith("0.")]
    assert len(said) == (2 if bits >= 1 else 1)
    if marks:
        assert said[0] == marks[0] and abs(float(said[1]) - float(marks[1])) < 0.02
    assert plotting.png(figure, dpi=40)


def test_courses_have_a_panel_a_plan_and_a_line_a_seed() -> None:
    figure = figures.courses(TRACES, 0.63)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in shown] == [t.plan.name for t in TRACES[::2]]
    assert all(len(axis.lines) == 1 + 2 for axis in shown), "the target and two seeds"
    assert plotting.png(figure, dpi=40)


def test_the_spread_shows_every_layer() -> None:
    figure = figures.spread(TRACES, 0.63)
    strokes = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert len(strokes) == len(TRACES) and list(strokes[0].get_xdata()) == [0.5, 0.7]
    assert plotting.png(figure, dpi=40)


def test_settling_and_frames_render() -> None:
    assert plotting.png(figures.settling({"a": [0.1, 0.2], "b": [0.4, 0.63]}, 0.63), dpi=40)
    figure = figures.target_frame(1.32, [1.1, 1.2])
    dashed = [line for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == pytest.approx(1.1244, abs=1e-3), "the Gaussian's alpha"
    assert plotting.png(figure, dpi=40)
