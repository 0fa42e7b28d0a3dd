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

TOTAL = "all mended"
MARKS = {"runs": "", "report": " \N{DAGGER}", "nothing": " *"}
NOTES = {
    "report": "\N{DAGGER} changes the report only: the runs, and so the right side, stay the same",
    "nothing": "* cannot act in this set-up: zero by construction",
}


def waterfall(steps: Sequence[Step]) -> Figure:
    """Left what the experiment would report at each step, right the same runs by one measure that does not change.

    The first row is the published experiment, the last the corrected one, each drawn from zero; between them a row a
    fault, whose bar begins where the row above ended. Faults that cannot act are marked, see `Step.acts_on`.

    Args:
        steps: from the published experiment down, at least two; whiskers are 95 % intervals.
    """
    import matplotlib.pyplot as plt

    names = [labels.FAULTS[step.name] + MARKS[step.acts_on] for step in steps]
    notes = [note for kind, note in NOTES.items() if any(step.acts_on == kind for step in steps)]
    height = 0.34 * (len(steps) + 1) + 1.2 + 0.2 * len(notes)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, height), sharey=True)
    _bars(left, [step.headline for step in steps], "effect as reported:\nrank reduction (%)")
    _bars(right, [step.damage for step in steps], "effect on held-out\nlog-perplexity (nats)")
    left.set_yticks(range(len(steps) + 1), [*names, TOTAL])
    left.set_ylim(len(steps) + 0.5, -0.5)
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=8)
    return figure


def _bars(axis: Axes, columns: Sequence[Sequence[float]], label: str) -> None:
    """A bar a column from where the one before ended, but for the first; and the last value again, from zero."""
    axis.axvline(0, color="#000000", linewidth=1)
    before = 0.0
    for place, values in enumerate([*columns, columns[-1]]):
        mean = float(np.mean(values))
        low, high = stats.student(values)
        is_total = place in (0, len(columns))
        start = 0.0 if is_total else before
        colour = "#000000" if is_total else COLOURS[1] if mean < start else COLOURS[0]
        axis.barh(place, mean - start, left=start, height=0.6, color=colour, alpha=0.55)
        axis.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt=".", color="#333333", markersize=3)
        before = mean
    axis.set(xlabel=label)
