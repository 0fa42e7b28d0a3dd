"""The figures of notebook 01, the null space: each takes measured numbers and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.prion.catalysts.survey import Row
    from chimera_lib.prion.hessian.null_space import NullSpace
    from chimera_lib.prion.hessian.spectrum import Density

__all__ = ["courses", "curvatures", "density", "null_frame", "rhos"]


def density(found: Density, marked: Mapping[str, float]) -> Figure:
    """The share of eigenvalues, on a logarithmic scale, in bins that are linear near zero and logarithmic beyond.

    Args:
        found: the density of the spectrum.
        marked: name to an eigenvalue that is drawn as a line.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.6))
    linear = 0.01
    bins = np.concatenate([-np.logspace(1.5, -2, 22), np.linspace(-linear, linear, 5)[1:-1], np.logspace(-2, 1.5, 22)])
    axis.hist(found.values, bins=bins.tolist(), weights=found.weights, color=COLOURS[5])
    for colour, (name, value) in zip(COLOURS, marked.items(), strict=False):
        axis.axvline(value, color=colour, linewidth=1.4, linestyle="--", label=f"{name}: {value:.3g}")
    axis.set_xscale("symlog", linthresh=linear)
    axis.set_yscale("log")
    axis.set(xlabel="eigenvalue of the Hessian (linear between -0.01 and 0.01)", ylabel="share of the eigenvalues")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def curvatures(groups: Mapping[str, Sequence[float]]) -> Figure:
    """||Hv|| of unit vectors on a logarithmic axis, a line of dots for each group.

    Args:
        groups: name to the curvatures, all positive.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 0.5 * len(groups) + 1.2))
    for place, (colour, values) in enumerate(zip(COLOURS, groups.values(), strict=False)):
        axis.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.75)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set(xscale="log", xlabel="curvature ‖Hv‖ of a unit vector v (log scale)", ylim=(len(groups) - 0.5, -0.5))
    return figure


def null_frame(found: NullSpace, names: Sequence[str], sizes: Sequence[int], title: str) -> Figure:
    """In which tensors of the model near-null directions lie: share of squared length, beside the share of weights.

    Args:
        found: the directions.
        names: of the tensors, in the order of the coordinates.
        sizes: their numbers of coordinates.
        title: above the figure.
    """
    import matplotlib.pyplot as plt

    squares = found.directions.double().square().mean(0)
    shares = [float(piece.sum()) for piece in squares.split(list(sizes))]
    weights = np.asarray(sizes) / sum(sizes)
    figure, axis = plt.subplots(figsize=(7, 3.4))
    places = np.arange(len(names))
    axis.barh(places - 0.2, shares, 0.4, color=COLOURS[0], label="of the directions")
    axis.barh(places + 0.2, weights, 0.4, color="#BBBBBB", label="of the weights")
    axis.set_yticks(places, list(names))
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share (of squared length; of the number)", title=title)
    axis.legend(loc="lower right")
    return figure


def courses(soft: np.ndarray, hard: Mapping[int, Sequence[float]], bar: float) -> Figure:
    """rho along the optimisation, a thin line a seed, the mean thick; dots for the hard version.

    Args:
        soft: shape (seeds, steps + 1).
        hard: step to rho of each seed's hard version.
        bar: drawn as a dotted line.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.6))
    for line in soft:
        axis.plot(line, color=COLOURS[0], linewidth=0.7, alpha=0.45)
    axis.plot(np.exp(np.log(soft).mean(0)), color=COLOURS[0], label="soft (geometric mean; thin: each seed)")
    steps = sorted(hard)
    for step in steps:
        axis.plot(np.full(len(hard[step]), step), hard[step], "o", color=COLOURS[1], markersize=3, alpha=0.45)
    means = [float(np.exp(np.log(hard[step]).mean())) for step in steps]
    axis.plot(steps, means, "--", color=COLOURS[1], label="snapped to tokens")
    axis.axhline(1, color="#000000", linewidth=1)
    axis.axhline(bar, color="#777777", linewidth=1.2, linestyle=":", label=f"bar, {bar}")
    axis.set(yscale="log", xlabel="optimisation step", ylabel="rho (1: random tokens; log scale)")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def rhos(rows: Sequence[Row], names: Mapping[str, str]) -> Figure:
    """rho of each kind: a dot a seed, the mean and its 95 % interval.

    Args:
        rows: measured kinds, each with two seeds or more.
        names: kind to what the axis calls it.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 0.45 * len(rows) + 1.3))
    for place, row in enumerate(rows):
        axis.plot(row.values, np.full(row.n, place + 0.18), "o", color="#999999", markersize=3)
        if row.ci is not None:
            low, high = max(row.ci.low, 1e-3), row.ci.high  # a logarithmic axis has no place for less than nothing
            axis.plot([low, high], [place, place], color=COLOURS[0])
        axis.plot(row.mean, place, "o", color=COLOURS[0], markersize=5)
    axis.axvline(1, color="#000000", linewidth=1)
    axis.set_yticks(range(len(rows)), [names.get(row.kind, row.kind) for row in rows])
    axis.set(xscale="log", xlabel="rho (1: mean of random tokens; log scale)", ylim=(len(rows) - 0.5, -0.5))
    return figure
