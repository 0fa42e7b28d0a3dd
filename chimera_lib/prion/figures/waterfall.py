"""From the published experiment to the corrected one, a fault mended at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import stats
from chimera_lib.plotting import COLOURS
from chimera_lib.prion.figures import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.prion.cascade import Step


def waterfall(steps: Sequence[Step]) -> Figure:
    """Left what the experiment would report at each step, right the same runs by one measure that does not change.

    Args:
        steps: from the published experiment down; bars begin where the step before ended, whiskers are 95 % intervals.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 0.34 * len(steps) + 1.2), sharey=True)
    _bars(left, [step.headline for step in steps], "effect as reported:\nrank reduction (%)")
    _bars(right, [step.damage for step in steps], "effect on held-out\nlog-perplexity (nats)")
    left.set_yticks(range(len(steps)), [labels.FAULTS[step.name] for step in steps])
    left.set_ylim(len(steps) - 0.5, -0.5)
    return figure


def _bars(axis: Axes, columns: Sequence[Sequence[float]], label: str) -> None:
    axis.axvline(0, color="#000000", linewidth=1)
    before = 0.0
    for place, values in enumerate(columns):
        mean = float(np.mean(values))
        low, high = stats.student(values)
        first_or_last = place in (0, len(columns) - 1)
        start = 0.0 if first_or_last else before
        colour = "#000000" if first_or_last else COLOURS[1] if mean < start else COLOURS[0]
        axis.barh(place, mean - start, left=start, height=0.6, color=colour, alpha=0.55)
        axis.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt=".", color="#333333", markersize=3)
        before = mean
    axis.set(xlabel=label)
