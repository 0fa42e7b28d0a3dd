"""The figures of notebook 04, the stress suite, from the rows of ``experiments.optimizer_comparison``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.ternary.experiments.optimizer_comparison import Row

__all__ = ["differences", "memory", "tuning_curves"]

COLUMNS = 2


def differences(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Loss over AdamW's from the same seeds, a panel for each table, a line for each optimizer; bars are 95 %.

    Args:
        tables: title of a panel to its rows; rows without a difference are named as diverged, AdamW is left out.
    """
    import matplotlib.pyplot as plt

    shown = {
        title: [row for row in rows if row.difference is not None or row.diverged] for title, rows in tables.items()
    }
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    most = max(len(rows) for rows in shown.values())
    size = (7.2, lines * (0.24 * most + 1.0))
    figure, axes = plt.subplots(lines, columns, figsize=size, sharey=_same_names(shown), squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, (title, rows) in zip(axes.flat, shown.items(), strict=False):
        _panel(axis, rows)
        axis.set(title=title)
    for axis in axes[-1]:
        axis.set_xlabel("loss, ratio to AdamW's (log scale)")
    return figure


def _same_names(shown: Mapping[str, Sequence[Row]]) -> bool:
    return len({tuple(row.optimizer for row in rows) for rows in shown.values()}) == 1


def _panel(axis: Axes, rows: Sequence[Row]) -> None:
    axis.axvline(1, color="#000000", linewidth=1)
    for place, row in enumerate(rows):
        if row.difference is None or row.difference_ci is None:
            axis.plot(1, place, "x", color="#777777")
            axis.annotate("  diverged", (1, place), fontsize=8, va="center")
            continue
        apart = row.difference_ci.low > 0 or row.difference_ci.high < 0
        colour = "#777777" if not apart else COLOURS[1] if row.difference > 0 else COLOURS[2]
        low, middle, high = (1 + x for x in (row.difference_ci.low, row.difference, row.difference_ci.high))
        axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, markersize=4)
    axis.set_yticks(range(len(rows)), [row.optimizer for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xscale("log")
    ends = [1 + end for row in rows if row.difference_ci for end in row.difference_ci]
    _ticks(axis, min([1.0, *ends]), max([1.0, *ends]))


def _ticks(axis: Axes, low: float, high: float) -> None:
    """A few plain numbers on a logarithmic axis of less or more than a decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    width = max(math.log(high / low), 0.02)
    axis.set_xlim(low * math.exp(-0.08 * width), high * math.exp(0.08 * width))
    if width > math.log(4):
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        parts = (1,) if width > math.log(100) else (1, 3) if width > math.log(12) else (1, 2, 5)
        places = [part * 10.0**decade for decade in decades for part in parts]
    else:
        step = _round_step((high - low) / 4)
        places = [1 + step * number for number in range(math.floor((low - 1) / step), math.ceil((high - 1) / step) + 1)]
    axis.xaxis.set_major_locator(FixedLocator([place for place in places if place > 0]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _round_step(least: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(part * power for part in (1, 2, 5, 10) if part * power >= least * (1 - 1e-9))


def tuning_curves(tables: Mapping[str, Sequence[Row]], names: Sequence[str]) -> Figure:
    """Loss on the tuning seeds against learning rate, a panel for each problem; the chosen ones are marked.

    Args:
        tables: title of a panel to rows that were tuned.
        names: optimizers to draw, at most eight.
    """
    import matplotlib.pyplot as plt

    columns = min(COLUMNS, len(tables))
    lines = -(-len(tables) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(7.2, 2.6 * lines + 0.9), sharex=True, squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for axis, (title, rows) in zip(axes.flat, tables.items(), strict=False):
        by_name = {row.optimizer: row for row in rows}
        best = math.inf
        for colour, marker, name in zip(COLOURS, "osD^vPX*", names, strict=False):
            tuned = by_name[name].tuned
            if tuned is None:
                continue
            pairs = [(lr, loss) for lr, loss in sorted(tuned.losses.items()) if math.isfinite(loss)]
            if not pairs:
                continue
            axis.plot(*zip(*pairs, strict=True), color=colour, linewidth=1.1, label=name)
            chosen = tuned.losses[tuned.learning_rate]
            axis.plot(tuned.learning_rate, chosen, marker=marker, color=colour, markersize=6)
            best = min([best, *(loss for _, loss in pairs)])
        start = max(_first(by_name[name]) for name in names)
        axis.set(xscale="log", yscale="log", title=title, ylim=(best / 2, start * 5))
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    for axis in axes[:, 0]:
        axis.set_ylabel("loss, tuning seeds")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _first(row: Row) -> float:
    """The loss at the least learning rate that did not diverge: about where a run starts."""
    finite = [loss for _, loss in sorted(row.tuned.losses.items()) if math.isfinite(loss)] if row.tuned else []
    return finite[0] if finite else 0.0


def memory(rows: Sequence[Row]) -> list[dict[str, object]]:
    """A table of the optimizers' state: bytes a weight, of which ψ, and what ψ takes of float32's four."""
    return [
        {
            "optimizer": row.optimizer,
            "state, bytes a weight": row.state_bytes / row.elements,
            "of it ψ": row.psi_bytes / row.elements,
            "step, ms (this machine)": np.float64(row.step_ms),
        }
        for row in rows
    ]
