"""Optimizers over a grid of learning rates: damage over the rate, and over how far the weights went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import stats
from chimera_lib.plotting import COLOURS
from chimera_lib.prion.comparison import MEASURES
from chimera_lib.prion.figures import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.prion.experiment import Outcome

X = {"rate": "learning rate", "weight_change": labels.MOVED}


def rates(outcomes: Sequence[Outcome], measure: str = "log_perplexity_change") -> Figure:
    """Left over the learning rate, right over the change of the weights that it led to; a line an optimizer.

    Args:
        outcomes: runs of one treatment, over optimizers, rates and seeds; bars are 95 % intervals over seeds.
        measure: a name of `comparison.MEASURES`.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), sharey=True)
    names = [name for name in labels.OPTIMIZERS if any(one.setting.optimizer == name for one in outcomes)]
    for number, name in enumerate(names):
        runs = [one for one in outcomes if one.setting.optimizer == name]
        for axis, over in zip(axes, X, strict=True):
            _line(axis, runs, over, measure, COLOURS[number], labels.OPTIMIZERS[name])
    for axis, over in zip(axes, X, strict=True):
        axis.axhline(0, color="#000000", linewidth=1)
        axis.set(xscale="log", xlabel=X[over])
    axes[0].set_ylabel(labels.DAMAGE if measure == "log_perplexity_change" else labels.RANK)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _line(axis: Axes, runs: Sequence[Outcome], over: str, measure: str, colour: str, label: str) -> None:
    points = []
    for rate in sorted({one.setting.rate for one in runs}):
        members = [one for one in runs if one.setting.rate == rate]
        values = [MEASURES[measure](one) for one in members]
        low, high = stats.student(values) if len(values) > 1 else (values[0], values[0])
        x = rate if over == "rate" else float(np.exp(np.mean([np.log(one.weight_change) for one in members])))
        points.append((x, float(np.mean(values)), low, high))
    x, mean, low, high = np.array(points).T
    axis.errorbar(x, mean, yerr=[mean - low, high - mean], fmt="o-", color=colour, markersize=4, label=label)
