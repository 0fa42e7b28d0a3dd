"""The figure of each priority: the change of rank above, of log-perplexity below, every run as a dot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import plotting
from chimera_lib.plotting import COLOURS
from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RANK_REDUCTION, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.prion.analysis.summary import Summary
    from chimera_lib.prion.analysis.verdicts import Verdict

_LABELS = {RANK_REDUCTION: "rank reduction, %", LOG_PERPLEXITY: "log-perplexity change, nats"}
_SIGNED, _PUBLISHED = COLOURS[0], COLOURS[1]


def draw(summary: Summary) -> Figure:
    """Draw the figure of a priority: a curve over sizes, or bars of groups with significance marks."""
    import matplotlib.pyplot as plt

    plotting.style()
    metrics = [m for m in (RANK_REDUCTION, LOG_PERPLEXITY) if any(one[m]["n"] for one in summary.described)]
    figure, axes = plt.subplots(len(metrics), 1, figsize=(5.0, 3.1 * len(metrics) + 0.9), sharex=True, squeeze=False)
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        if summary.priority.number == 1:
            _curve(axis, summary, metric)
        else:
            _bars(axis, summary, metric)
        axis.axhline(0, color="black", lw=1)
        axis.set_ylabel(
            _LABELS[metric] + ("\n(above 0: the rank fell)" if metric == RANK_REDUCTION else "\n(above 0: worse)")
        )
    if any(one["double_shifted"] for one in summary.described) and LOG_PERPLEXITY in metrics:
        axes[-1, 0].set_title("labels shifted twice", loc="left", fontsize=8.5, fontweight="normal")
    if summary.priority.number == 1:
        axes[-1, 0].set_xlabel("parameters of the model")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", fontsize=8.5)
    return figure


def _curve(axis: Axes, summary: Summary, metric: str) -> None:
    """Means over sizes on a logarithmic axis."""
    known = [one for one in summary.described if one["parameters"] and one[metric]["n"]]
    if not known:
        axis.set_title("no size is known", loc="left", fontsize=8.5, fontweight="normal")
        return
    unknown = len([one for one in summary.described if one[metric]["n"]]) - len(known)
    x = [one["parameters"] for one in known]
    for one in known:
        dots = values(summary.groups[one["group"]], metric)
        spread = np.exp(np.linspace(-0.19, -0.07, len(dots))) if len(dots) > 1 else [0.88]
        axis.plot(one["parameters"] * np.asarray(spread), dots, ".", color="#999999", ms=5, zorder=1)
    _means(axis, x, [one[metric] for one in known], line=True)
    if summary.absolute and metric == RANK_REDUCTION:
        rows = [row for row in summary.published if row[summary.priority.column] in {one["group"] for one in known}]
        _published(axis, x, rows, line=True)
    axis.set_xscale("log")
    axis.set_xticks(x, [one["group"] for one in known])
    axis.minorticks_off()
    axis.margins(x=0.12)
    if unknown:
        axis.annotate(f"{unknown} of unknown size not shown", (0.02, 0.03), xycoords="axes fraction", fontsize=8.5)
    slopes = [one for one in summary.verdicts[metric]["scaling"][:1] if one.interval]
    for slope in slopes:
        low, high = slope.interval or (0.0, 0.0)
        said = f"slope {slope.effect:+.2f} [{low:+.2f}, {high:+.2f}] a decade"
        axis.set_title(said, loc="right", fontsize=8.5, fontweight="normal")


def _bars(axis: Axes, summary: Summary, metric: str) -> None:
    """Means by group, brackets with Holm p-values above the pairs that hold the reference, or above all."""
    found = [one for one in summary.described if one[metric]["n"]]
    names = [one["group"] for one in found]
    places = np.arange(len(found), dtype=float)
    if summary.absolute and metric == RANK_REDUCTION:
        rows = [row for row in summary.published if row[summary.priority.column] in names]
        _published(axis, places, rows, line=False)
    else:
        axis.bar(places, [one[metric]["mean"] for one in found], width=0.6, color=_SIGNED, alpha=0.25)
    for place, one in zip(places, found, strict=True):
        dots = values(summary.groups[one["group"]], metric)  # left of the mean, so that none is hidden by its bar
        axis.plot(
            place - 0.18 + np.linspace(-0.08, 0.08, len(dots)) * (len(dots) > 1), dots, ".", color="#777777", ms=6
        )
    _means(axis, places, [one[metric] for one in found], line=False)
    few = len(found) <= 4
    shown = [name.replace("_", "\n" if few else " ") for name in names]
    ticks = [f"{name}\n(n = {one[metric]['n']})" for name, one in zip(shown, found, strict=True)]
    axis.set_xticks(places, ticks, rotation=0 if few else 35, ha="center" if few else "right")
    axis.grid(visible=False, axis="x")
    verdicts = summary.verdicts[metric]["differences"]
    _brackets(axis, names, [one for one in verdicts if one.claim] if len(verdicts) > 3 else verdicts)


def _means(axis: Axes, x: Any, found: list[dict[str, Any]], *, line: bool) -> None:
    means = np.array([one["mean"] for one in found])
    ends = np.array([one["interval"] or (one["mean"], one["mean"]) for one in found])
    axis.errorbar(
        x, means, yerr=[means - ends[:, 0], ends[:, 1] - means], fmt="o-" if line else "D", ms=6, color=_SIGNED,
        zorder=3, label="signed mean; bars: 95 % interval (Student's t); dots: runs",
    )  # fmt: skip


def _published(axis: Axes, x: Any, rows: list[dict[str, Any]], *, line: bool) -> None:
    """Means of magnitudes with standard deviations, as the source draws them."""
    means = np.array([row["mean_rank_reduction_pct"] for row in rows])
    deviations = np.array([row["std_dev_rank_reduction_pct"] or 0.0 for row in rows])
    label = "mean of magnitudes, as published; bars: standard deviation"
    if line:
        shifted = np.asarray(x) * 1.12
        axis.errorbar(shifted, means, yerr=deviations, fmt="s--", mfc="white", color=_PUBLISHED, label=label, zorder=2)
        return
    axis.bar(np.asarray(x), means, width=0.6, color=_PUBLISHED, alpha=0.25)
    axis.errorbar(np.asarray(x) + 0.2, means, yerr=deviations, fmt="none", color=_PUBLISHED, label=label, zorder=2)


def _brackets(axis: Axes, names: list[str], verdicts: list[Verdict]) -> None:
    low, high = axis.get_ylim()
    step = 0.14 * (high - low)
    height = high
    for one in verdicts:
        p = one.p if one.p_holm is None else one.p_holm
        ends = sorted(names.index(group) for group in one.groups)
        said = "no test" if p is None else f"{mark(p)}, Holm p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        left, right = ends[0] + 0.05, ends[1] - 0.05
        axis.plot(
            [left, left, right, right], [height, height + step / 4, height + step / 4, height], color="black", lw=1
        )
        axis.text((left + right) / 2, height + step / 3, said, ha="center", va="bottom", fontsize=8.5)
        height += step
    axis.set_ylim(low, height + step / 3)


def mark(p: float) -> str:
    """The significance mark of a p-value: ``***`` below .001, ``**`` below .01, ``*`` below .05, else ``ns``."""
    return next((sign for sign, most in (("***", 0.001), ("**", 0.01), ("*", 0.05)) if p < most), "ns")
