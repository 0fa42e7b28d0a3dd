"""Every figure of part I, from small arrays: it can be drawn, its axes are named, and it shows those numbers."""

from __future__ import annotations

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from chimera_lib import plotting
from chimera_lib.images import figures

mpl.use("Agg")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed():
    """The book's look for the time of a test, and no figure left open after it."""
    with mpl.rc_context():
        plotting.style()
        yield
    plt.close("all")


def drawn(figure) -> bytes:
    """Render a figure as the book does; a warning (text without a glyph, say) is an error here."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_differences():
    pairs = {"blis": np.array([[0.0, 1e-6], [2e-6, 0.0]]), "mkl": np.array([1e-6, 2e-6, 3e-6])}
    figure = figures.differences(pairs, np.array([0.5, 3.0, 8.0]))
    (axis,) = figure.axes
    assert axis.get_xlabel() == "logit units (log scale)" and axis.get_xscale() == "log"
    assert axis.get_ylabel() == "share of values below"
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["blis (50% bit-equal)", "mkl (0% bit-equal)", "margins of natural images"]
    assert set(axis.lines[0].get_xdata()) >= {1e-6, 2e-6}
    assert drawn(figure)


def test_difference_matrix():
    logits = np.zeros((3, 4, 10), np.float32)
    logits[2, 1, 5] = 1e-3
    figure = figures.difference_matrix(["a", "b", "c"], logits)
    axis, bar = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["a", "b", "c"]
    assert axis.get_xlabel() and axis.get_ylabel()
    assert "largest" in bar.get_ylabel() and "logit" in bar.get_ylabel()
    shown = axis.images[0].get_array()
    assert shown.mask.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert shown[0, 2] == pytest.approx(1e-3) == shown[2, 1]
    assert drawn(figure)


def test_difference_matrix_of_equal_backends():
    assert drawn(figures.difference_matrix(["a", "b"], np.ones((2, 3, 10), np.float32)))


def test_gap_paths():
    paths = {"as published": [[2.0], [3.0]], "lattice: walk": [[2.0, 0.1, 1e-6], [1.0, 0.0]]}
    figure = figures.gap_paths(paths, noise=3e-6)
    assert [axis.get_title() for axis in figure.axes] == ["as published", "lattice\nwalk"]
    assert all(axis.get_xlabel() == "step" and axis.get_yscale() == "log" for axis in figure.axes)
    assert figure.axes[0].get_ylabel() == "top-two logit gap (log scale)"
    walk = figure.axes[1]
    assert np.array_equal(walk.lines[0].get_ydata(), [2.0, 0.1, 1e-6])
    assert walk.lines[2].get_ydata()[-1] > 0, "a gap of zero is lifted to the floor, where a log axis can show it"
    assert walk.lines[2].get_ydata()[-1] >= walk.get_ylim()[0]
    assert drawn(figure)


def test_walk_frame():
    start = RNG.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    point = start.copy()
    point[0, 0] += 1
    logits = np.zeros((2, 10), np.float32)
    logits[:, [3, 5]] = [[2.000001, 2.0], [2.0, 2.000001]]
    figure = figures.walk_frame(start, point, logits, ["openblas", "blis"], [f"class{i}" for i in range(10)])
    picture, change, gap = figure.axes
    assert picture.get_title() == "picture"
    assert change.get_title() == "3 values changed,\nby 1 of 255 at most"
    assert gap.get_xlabel() == "logit gap: class5 (left) or class3 (right)"
    assert [text.split(" (")[0] for text in texts(gap)] == ["openblas: class3", "blis: class5"]
    right, left = (line.get_xdata()[0] for line in gap.lines[:2])
    assert left < 0 < right
    assert drawn(figure)


def test_walk_frame_at_its_start():
    start = np.zeros((8, 8, 3), np.uint8)
    figure = figures.walk_frame(start, start, np.eye(2, 4, dtype=np.float32), ["a", "b"], list("wxyz"))
    assert figure.axes[1].get_title() == "0 values changed,\nby 0 of 255 at most"
    assert drawn(figure)


def test_strategies_at_the_ends_and_without_intervals():
    summaries = {
        "random_noise": {
            "rate": 0.0, "rate_ci": (0.0, 0.3), "median_evaluations": 500.0, "median_evaluations_ci": (500.0, 500.0),
        },
        "lattice": {
            "rate": 1.0, "rate_ci": (0.7, 1.0), "median_evaluations": 200.0, "median_evaluations_ci": None,
        },
        "dense_multiscale": {
            "rate": 0.5, "rate_ci": None, "median_evaluations": 900.0, "median_evaluations_ci": [800.0, 1000.0],
        },
    }  # fmt: skip
    figure = figures.strategies(summaries)
    rate, cost = figure.axes
    assert rate.get_xlabel() == "starts that became a chimera (%)"
    assert cost.get_xlabel() == "forward evaluations a start\n(median, log scale)" and cost.get_xscale() == "log"
    assert [tick.get_text() for tick in rate.get_yticklabels()] == ["random noise", "lattice", "dense multiscale"]
    low, high = rate.get_xlim()
    shown = [(box[0].get_xdata()[0], box[0].get_ydata()[0]) for box in rate.containers]
    assert shown == [(0.0, 2), (100.0, 1), (50.0, 0)]
    assert all(low < x < high for x, _ in shown)
    ends = [np.array(box[2][0].get_segments()[0])[:, 0].tolist() for box in rate.containers]
    assert ends == [[0.0, 30.0], [70.0, 100.0], [50.0, 50.0]]
    assert drawn(figure)


def test_gallery():
    images = RNG.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    said = [{"openblas": 0, "blis": 1}, {"openblas": 2, "blis": 0}, {"openblas": 1, "blis": 2}]
    figure = figures.gallery(images, said, ["cat", "dog", "frog"], columns=2)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["openblas: cat\nblis: dog", "openblas: frog\nblis: cat", "openblas: dog\nblis: frog"]
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 3 and all(map(np.array_equal, shown, images))
    assert drawn(figure)


def test_cost_against_finds_numbers_every_strategy_apart():
    def summary(rate, cost):
        return {"rate": rate, "rate_ci": (0.5 * rate, min(1.0, rate + 0.2)), "median_cpu_seconds": cost}

    summaries = {"lattice": summary(1.0, 0.3), "one": summary(1.0, 0.31), "two_words": summary(0.0, 2.0)}
    figure = figures.cost_against_finds(summaries)
    assert drawn(figure)
    (axis,) = figure.axes
    assert texts(axis) == ["1", "2", "3"]
    heights = [text.xyann[1] for text in axis.texts]
    assert heights[0] != heights[1], "points beside each other"
    assert heights[2] < 0, "numbers of points at the bottom stand below them"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["1  lattice", "2  one", "3  two words"]
    assert "CPU-seconds" in axis.get_xlabel()
    assert "%" in axis.get_ylabel()
