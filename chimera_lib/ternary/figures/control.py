"""The figures of controllers; each function takes measured numbers and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.plotting import COLOURS
from chimera_lib.ternary.controllers import symmetric_bits, zero_ratio_for
from chimera_lib.ternary.quantizers import gaussian
from chimera_lib.ternary.quantizers.statistics import MOST_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.ternary.experiments.control import Trace

TOLERANCE = 0.02  # of the published controller
ZEROS = "share of zeros $z$"


def entropy_curve(target_bits: float) -> Figure:
    """Effective bits over the share of zeros, both branches, and where ``target_bits`` lie on them."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    branches(axis, target_bits)
    axis.annotate(
        r"$\log_2 3$ at $z = 1/3$", (1 / 3, MOST_BITS), xytext=(0, 6), textcoords="offset points", ha="center"
    )
    axis.set(xlabel=ZEROS, ylabel="effective bits (entropy)", xlim=(0, 1), ylim=(0, 1.75))
    axis.legend(loc="lower left")
    return figure


def settling(courses: Mapping[str, Sequence[float]], target: float) -> Figure:
    """Share of zeros before the first and after each update, on weights that stand still."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    aim(axis, target)
    for colour, marker, (name, ratios) in zip(COLOURS[1:], "osD^v", courses.items(), strict=False):
        axis.plot(ratios, marker=marker, markersize=3.5, linewidth=1.2, color=colour, label=name)
    axis.set(xlabel="updates", ylabel=ZEROS, ylim=(-0.02, 0.75))
    axis.legend(loc="lower right")
    return figure


def courses(traces: Sequence[Trace], target: float) -> Figure:
    """Share of zeros of the whole network over batches while it trains: a panel a controller, a line a seed."""
    import matplotlib.pyplot as plt

    plans = list(dict.fromkeys(trace.plan for trace in traces))
    rows = -(-len(plans) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(7, 2.1 * rows + 0.5), sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(plans) :]:
        axis.set_axis_off()
    for axis, plan in zip(axes.flat, plans, strict=False):
        aim(axis, target)
        for trace in (trace for trace in traces if trace.plan == plan):
            batches = np.arange(1, len(trace.zero_ratio) + 1)
            layers = np.array(trace.layers)
            axis.fill_between(batches, layers.min(1), layers.max(1), color=COLOURS[0], alpha=0.15, linewidth=0)
            axis.plot(batches, trace.zero_ratio, color=COLOURS[0], linewidth=1.3)
        axis.set_title(plan.name, fontsize=9, fontweight="normal")
    axes[0][0].set_ylim(0, 0.8)
    figure.supxlabel("batch", fontsize=10)
    figure.supylabel(ZEROS, fontsize=10)
    return figure


def spread(traces: Sequence[Trace], target: float) -> Figure:
    """Each layer's share of zeros in the last batch, a row a controller; large: all weights together."""
    import matplotlib.pyplot as plt

    plans = list(dict.fromkeys(trace.plan for trace in traces))
    figure, axis = plt.subplots(figsize=(6.4, 0.5 * len(plans) + 1.2))
    axis.axvspan(target - TOLERANCE, target + TOLERANCE, color=COLOURS[2], alpha=0.2, linewidth=0)
    axis.axvline(target, color=COLOURS[2], linewidth=1)
    for row, plan in enumerate(plans):
        own = [trace for trace in traces if trace.plan == plan]
        for trace in own:
            axis.plot(
                trace.layers[-1], np.full(len(trace.layers[-1]), row), "|", color=COLOURS[0], markersize=12, alpha=0.6
            )
        axis.plot([trace.zero_ratio[-1] for trace in own], [row] * len(own), "o", color=COLOURS[1], markersize=6)
    axis.set_yticks(range(len(plans)), [plan.name for plan in plans])
    axis.set(xlabel="share of zeros in the last batch", ylim=(len(plans) - 0.5, -0.5))
    return figure


def target_frame(target_bits: float, alphas: Sequence[float]) -> Figure:
    """One target: where it lies on the curve, and the alpha that each layer (in order) needs for it at once."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 3.4))
    branches(left, target_bits)
    left.set(xlabel=ZEROS, ylabel="effective bits (entropy)", xlim=(0, 1), ylim=(0, 1.75))
    right.plot(range(1, len(alphas) + 1), alphas, "o", color=COLOURS[0], markersize=4.5)
    right.axhline(gaussian.alpha_for(zero_ratio_for(target_bits)), color="black", linewidth=1.2, linestyle="--")
    right.set(
        xlabel="layer (dashed: Gaussian weights)", ylabel=r"threshold $\alpha$, in units of $\gamma$", ylim=(0, 2.6)
    )
    return figure


def branches(axis: Axes, target_bits: float) -> None:
    """Both branches of the entropy on ``axis``, and the points of ``target_bits`` on those that have them."""
    for name, low, high, style in (("dense", 0.0, 1 / 3, "--"), ("sparse", 1 / 3, 1.0, "-")):
        z = np.linspace(low, high, 200)
        bits = [symmetric_bits(float(share)) for share in z]
        axis.plot(z, bits, linestyle=style, color=COLOURS[0], label=f"{name} branch")
    axis.axhline(target_bits, color="#888888", linewidth=1, linestyle=":")
    for name, colour, beside in (("sparse", COLOURS[1], (7, 5)), ("dense", "#666666", (8, -13))):
        if name == "sparse" or target_bits >= 1:
            share = zero_ratio_for(target_bits, branch=name)
            axis.plot(share, target_bits, "o", color=colour, markersize=7)
            axis.annotate(f"{share:.3f}", (share, target_bits), xytext=beside, textcoords="offset points", color=colour)


def aim(axis: Axes, target: float) -> None:
    """The target and the published tolerance around it."""
    axis.axhspan(target - TOLERANCE, target + TOLERANCE, color=COLOURS[2], alpha=0.2, linewidth=0)
    axis.axhline(target, color=COLOURS[2], linewidth=1)
