"""Damage by treatment, by size and by setting: means with 95 % intervals over seeds, and every seed as a dot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import stats
from chimera_lib.plotting import COLOURS
from chimera_lib.prion.comparison import MEASURES
from chimera_lib.prion.figures import labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.prion.experiment import Outcome

AXES = {"log_perplexity_change": labels.DAMAGE, "rank_reduction": labels.RANK, "weight_change": labels.MOVED}


def by_row(
    rows: Mapping[str, Sequence[Outcome]], measures: Sequence[str] = ("log_perplexity_change", "rank_reduction")
) -> Figure:
    """A panel for each measure, a line for each row: the mean, its 95 % interval, a dot a seed.

    Args:
        rows: label of a line to its runs, top to bottom.
        measures: names of `comparison.MEASURES`.
    """
    import matplotlib.pyplot as plt

    size = (7.2, 0.34 * len(rows) + 1.0)
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, squeeze=False)
    for axis, measure in zip(axes.flat, measures, strict=True):
        axis.axvline(0, color="#000000", linewidth=1)
        for place, runs in enumerate(rows.values()):
            values = [MEASURES[measure](one) for one in runs]
            colour = labels.COLOUR.get(runs[0].setting.treatment, COLOURS[0])
            axis.plot(values, [place + 0.18] * len(values), ".", color=colour, alpha=0.45, markersize=5)
            mean_and_interval(axis, values, place, colour)
        axis.set(xlabel=AXES[measure].replace(" (", "\n("))  # side by side there is little room
    axes[0, 0].set_yticks(range(len(rows)), list(rows))
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def by_size(
    groups: Mapping[str, Sequence[Outcome]],
    sizes: Mapping[str, int],
    measures: Sequence[str] = ("log_perplexity_change", "rank_reduction"),
) -> Figure:
    """A panel for each measure, over the number of parameters: a line a treatment, bars 95 % intervals over seeds.

    Args:
        groups: treatment to its runs on all models.
        sizes: model to its number of parameters.
        measures: names of `comparison.MEASURES`.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(measures), figsize=(7.2, 3.4), squeeze=False)
    for axis, measure in zip(axes.flat, measures, strict=True):
        for shift, (treatment, runs) in enumerate(groups.items()):
            across = [model for model in sizes if any(one.setting.model == model for one in runs)]
            values = [[MEASURES[measure](one) for one in runs if one.setting.model == model] for model in across]
            x = np.array([sizes[model] for model in across]) * 1.03 ** (shift - len(groups) / 2)
            means = np.array([np.mean(one) for one in values])
            ends = np.array([stats.student(one) for one in values])
            colour = labels.COLOUR[treatment]
            axis.errorbar(
                x, means, yerr=[means - ends[:, 0], ends[:, 1] - means], fmt="o-", color=colour, markersize=4,
                label=labels.TREATMENTS[treatment],
            )  # fmt: skip
        axis.axhline(0, color="#000000", linewidth=1)
        labels.over_size(axis, sizes.values())
        axis.set(ylabel=AXES[measure])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def along(groups: Mapping[str, Sequence[Outcome]], *, names: Mapping[str, str] = labels.TREATMENTS) -> Figure:
    """What a run had done to its model over how far it had moved the weights: left the perplexity, right the rank.

    Args:
        groups: name to runs with measures along their way; a thin line a run, a thick one their mean by steps.
        names: what a name is called.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.8))
    for number, (name, runs) in enumerate(groups.items()):
        colour = labels.COLOUR.get(name, COLOURS[number % len(COLOURS)])
        ways = [np.array([_point(one, step) for step in sorted(one.trail)]) for one in runs]
        for way in ways:
            for axis, column in ((left, 1), (right, 2)):
                axis.plot(way[:, 0], way[:, column], color=colour, alpha=0.25, linewidth=0.8)
        mean = np.mean(ways, axis=0)
        for axis, column in ((left, 1), (right, 2)):
            axis.plot(mean[:, 0], mean[:, column], color=colour, label=names.get(name, name))
    for axis, label in ((left, labels.DAMAGE), (right, labels.RANK)):
        axis.axhline(0, color="#000000", linewidth=1)
        axis.set(xlabel=labels.MOVED, ylabel=label)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _point(outcome: Outcome, step: int) -> tuple[float, float, float]:
    first, here = outcome.trail[min(outcome.trail)], outcome.trail[step]
    rank = 100 * (1 - here["effective_rank"] / first["effective_rank"])
    return here["weight_change"], here["log_perplexity"] - first["log_perplexity"], rank


def mean_and_interval(axis: Axes, values: Sequence[float], place: float, colour: str) -> None:
    """Draw the mean of some values and its 95 % interval on a line of an axis."""
    middle = float(np.mean(values))
    low, high = stats.student(values) if len(values) > 1 else (middle, middle)
    axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, markersize=5)
