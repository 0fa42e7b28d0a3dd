"""The figures of weights and their codes; each function takes measured numbers and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.plotting import COLOURS
from chimera_lib.ternary.quantizers import gaussian
from chimera_lib.ternary.quantizers.statistics import MOST_BITS, entropy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.ternary.experiments.weight_sweep import Point

WIDEST = 4.5  # mean magnitudes shown to either side
BINS = np.linspace(-WIDEST, WIDEST, 91)
IN_GAMMAS = r"weight, in units of its layer's $\gamma$ (mean |W|)"


def distributions(networks: Mapping[str, np.ndarray], kurtosis: Mapping[str, Sequence[float]]) -> Figure:
    """Densities of networks' weights in units of gamma against the Gaussian; below, each layer's excess kurtosis."""
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 6.4), height_ratios=(1.5, 1))
    for colour, (name, values) in zip(COLOURS, networks.items(), strict=False):
        density = np.histogram(values, BINS)[0] / (len(values) * (BINS[1] - BINS[0]))
        top.stairs(density, BINS, baseline=None, color=colour, linewidth=1.6, label=name)
    x = np.linspace(-WIDEST, WIDEST, 400)
    top.plot(x, gaussian_density(x), color="black", linewidth=1.2, linestyle="--", label="Gaussian")
    top.set(xlabel=IN_GAMMAS, ylabel="density", yscale="log", ylim=(1e-4, 1.2))
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    for colour, (name, found) in zip(COLOURS, kurtosis.items(), strict=False):
        depth = (np.arange(len(found)) + 0.5) / len(found)
        bottom.plot(depth, found, "o", color=colour, markersize=4, label=name)
    bottom.axhline(0, color="black", linewidth=1.2, linestyle="--")
    bottom.set_yscale("symlog", linthresh=1)
    ticks = (-1, 0, 1, 3, 10, 30)
    bottom.set_yticks(ticks, [str(tick) for tick in ticks])
    bottom.set(xlabel="depth of the layer (0: input, 1: output)", ylabel="excess kurtosis")
    return figure


def alpha_sweep(layers: Mapping[str, Sequence[Point]], at: float) -> Figure:
    """Share of zeros, entropy and relative error over alpha: each layer a thin line, the Gaussian in black."""
    import matplotlib.pyplot as plt

    alphas = np.array([point.alpha for point in next(iter(layers.values()))])
    zeros = np.array([gaussian.zero_ratio(alpha) for alpha in alphas])
    figure, axes = plt.subplots(3, 1, figsize=(6.4, 8.2), sharex=True, height_ratios=(1, 1, 1.5))
    for points in layers.values():
        axes[0].plot(alphas, [p.zero_ratio for p in points], color=COLOURS[0], alpha=0.35, linewidth=0.8)
        axes[1].plot(alphas, [p.effective_bits for p in points], color=COLOURS[0], alpha=0.35, linewidth=0.8)
        axes[2].plot(alphas, [p.error_gamma for p in points], color=COLOURS[1], alpha=0.35, linewidth=0.8)
        axes[2].plot(alphas, [p.error_optimal for p in points], color=COLOURS[2], alpha=0.35, linewidth=0.8)
    axes[0].plot(alphas, zeros, color="black", label="Gaussian")
    axes[1].plot(alphas, [entropy(z, (1 - z) / 2, (1 - z) / 2) for z in zeros], color="black")
    axes[1].axhline(MOST_BITS, color="#888888", linewidth=1, linestyle=":")
    axes[1].annotate(r"$\log_2 3$", (alphas[-1], MOST_BITS), ha="right", va="bottom", color="#555555")
    for scale, style, colour in (("gamma", "-", COLOURS[1]), ("optimal", "--", COLOURS[2])):
        errors = [gaussian.relative_error(alpha, scale) for alpha in alphas]
        axes[2].plot(alphas, errors, color="black", linestyle=style, linewidth=1.4)
        best = gaussian.best_alpha(scale)
        said = r"scale $\gamma$ (as published)" if scale == "gamma" else "optimal scale"
        axes[2].plot(best, gaussian.relative_error(best, scale), "o", color=colour, markersize=7, label=said, zorder=5)
    axes[0].plot([], [], color=COLOURS[0], alpha=0.6, linewidth=1, label="a layer of ResNet-20")
    for axis in axes:
        axis.axvline(at, color="#888888", linewidth=1, linestyle=":")
    axes[0].set(ylabel="share of zeros", ylim=(0, 1))
    axes[1].set(ylabel="effective bits (entropy)", ylim=(0.8, 1.68))
    axes[2].set(ylabel="relative squared error", xlabel=r"threshold $\alpha$, in units of $\gamma$", ylim=(0.1, 0.7))
    axes[0].legend(loc="upper left")
    axes[2].legend(loc="upper center")
    return figure


def threshold_frame(values: np.ndarray, here: Point) -> Figure:
    """One alpha: weights in units of gamma, those that become zero in grey, and the levels of either scale."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    codes(axis, values, here.alpha, here.alpha)
    top = axis.get_ylim()[1]
    for colour, level, said in ((COLOURS[1], 1.0, r"levels, scale $\gamma$"), (COLOURS[2], here.scale, "optimal")):
        axis.vlines([-level, level], 0, top, color=colour, linewidth=2, linestyle="--", label=said)
    axis.set(xlabel=IN_GAMMAS, ylabel="density", ylim=(0, top), xlim=(-WIDEST, WIDEST))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    axis.text(
        0.985, 0.97,
        f"zeros {here.zero_ratio:.1%}\n{here.effective_bits:.3f} bits (entropy)\n"
        f"error {here.error_gamma:.3f} ($\\gamma$)\nerror {here.error_optimal:.3f} (optimal)",
        transform=axis.transAxes, ha="right", va="top", fontsize=9, bbox={"color": "white", "alpha": 0.85},
    )  # fmt: skip
    return figure


def levels(rows: Mapping[str, tuple[np.ndarray, float, float, float, float]]) -> Figure:
    """What each quantizer made of its layer: weights, thresholds and levels, one panel each.

    ``rows`` maps a name to the weights, the thresholds (below minus the first a weight is -1, above the second 1), and
    the magnitudes of the levels of -1 and 1; all in the weights' own unit.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(7, 5.4), sharex=True)
    widest = max(np.quantile(np.abs(values), 0.998) for values, *_ in rows.values())
    for axis, (name, (values, low, high, minus, plus)) in zip(axes.flat, rows.items(), strict=True):
        codes(axis, values, low, high, np.linspace(-widest, widest, 61))
        top = axis.get_ylim()[1]
        axis.vlines([-minus, plus], 0, top, color=COLOURS[1], linewidth=2, linestyle="--", label="levels")
        share = np.mean((values >= -low) & (values <= high))
        axis.set(title=f"{name}: {share:.0%} zeros", ylim=(0, top))
    for axis in axes[1]:
        axis.set_xlabel("weight")
    for axis in axes[:, 0]:
        axis.set_ylabel("density")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def warmup(used: Sequence[float], zeros: Sequence[float], evaluating: tuple[int, int]) -> Figure:
    """Alpha and the share of zeros, forward by forward; ``evaluating`` are the first and last of the eval forwards."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    forwards = np.arange(1, len(used) + 1)
    axis.axvspan(evaluating[0] - 0.5, evaluating[1] + 0.5, color="#DDDDDD", label="eval forwards")
    axis.plot(forwards, used, color=COLOURS[0], label=r"threshold $\alpha$ used")
    axis.plot(forwards, zeros, color=COLOURS[1], label="share of zeros")
    axis.set(xlabel="forward", ylabel=r"$\alpha$ (in units of $\gamma$), share", ylim=(0, None))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def overfit(courses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Loss over steps of learning a few images by heart: one line a seed, one colour a kind of activation."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for colour, (name, runs) in zip((COLOURS[1], COLOURS[0], *COLOURS[2:]), courses.items(), strict=False):
        for turn, losses in enumerate(runs):
            axis.plot(losses, color=colour, linewidth=1.5, label=name if turn == 0 else None)
    axis.set(xlabel="step", ylabel="loss (cross-entropy, nats)", ylim=(0, None))
    axis.legend(loc="lower left")
    return figure


def codes(axis: Axes, values: np.ndarray, low: float, high: float, bins: np.ndarray = BINS) -> None:
    """A histogram of weights on ``axis``, those from -low to high, which become zero, in grey."""
    weights = np.full(len(values), 1 / (len(values) * (bins[1] - bins[0])))
    zero = (values >= -low) & (values <= high)
    for chosen, colour, said in ((~zero, COLOURS[5], r"become $\pm1$"), (zero, "#BBBBBB", "become 0")):
        axis.hist(values[chosen], bins.tolist(), weights=weights[chosen], color=colour, label=said)


def gaussian_density(x: np.ndarray) -> np.ndarray:
    """Density at ``x`` of a Gaussian whose mean magnitude is 1."""
    return gaussian.GAMMA / np.sqrt(2 * np.pi) * np.exp(-((x * gaussian.GAMMA) ** 2) / 2)
