"""The figures of part I; each function takes measured numbers and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP_RANGE = 30.0  # logits
CHANGE_RANGE = 4  # 8-bit levels at which the picture of a change saturates


def differences(pairs: Mapping[str, np.ndarray], gaps: np.ndarray) -> Figure:
    """Two distributions on one logarithmic axis: backend differences, and the margins they would have to cross.

    ``pairs`` maps a backend to its |logit difference| from the reference, any shape; ``gaps`` (N,) are
    the top-two logit gaps of natural images. Zeros (bit-equal) are counted in the label.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.8))
    for colour, (name, values) in zip(COLOURS, pairs.items(), strict=False):
        flat = np.asarray(values).ravel()
        axis.ecdf(flat[flat > 0], color=colour, label=f"{name} ({np.mean(flat == 0):.0%} bit-equal)", linewidth=1.4)
    axis.ecdf(gaps, color="#555555", linewidth=4, alpha=0.6, label="margins of natural images")
    axis.set(xscale="log", xlabel="logit units (log scale)", ylabel="share of values below", xlim=(1e-9, 1e2))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def difference_matrix(names: Sequence[str], logits: np.ndarray) -> Figure:
    """Largest |logit difference| for each pair of backends, logits (backends, N, classes); white is bit-equal."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    largest = np.abs(logits[:, None].astype(np.float64) - logits[None]).max(axis=(2, 3))
    side = 0.3 * len(names) + 2.2
    figure, axis = plt.subplots(figsize=(side + 0.8, side))
    shown = np.ma.masked_equal(largest, 0)
    image = axis.imshow(shown, norm=LogNorm(1e-7, max(1e-5, float(largest.max()))), cmap="viridis")
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="backend", ylabel="backend")
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, label="largest difference (logits)", shrink=0.8)
    return figure


def gap_paths(paths: Mapping[str, Sequence[Sequence[float]]], noise: float) -> Figure:
    """Top-two gap against step, one panel a method, one line a start; the band is where backends can differ.

    ``noise`` is the measured difference between the backends' gaps, in logit units; gaps under a
    thirtieth of it, zero among them, are drawn there.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(paths), figsize=(2.6 * len(paths) + 1, 3.4), sharey=True, squeeze=False)
    floor = noise / 30
    for axis, (name, lines) in zip(axes[0], paths.items(), strict=True):
        for line in lines:
            axis.plot(np.arange(len(line)), np.maximum(line, floor), color=COLOURS[0], alpha=0.6, linewidth=1)
            axis.plot(len(line) - 1, max(line[-1], floor), "o", color=COLOURS[1], markersize=4)
        axis.axhspan(floor / 2, noise, color=COLOURS[2], alpha=0.25, linewidth=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlim(-0.5, max(4, max(len(line) for line in lines)))
        axis.set(yscale="log", title=name.replace(": ", "\n"), xlabel="step")
    axes[0][0].set(ylabel="top-two logit gap (log scale)", ylim=(floor / 2, None))
    return figure


def walk_frame(
    start: np.ndarray,
    point: np.ndarray,
    logits: np.ndarray,
    backends: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """One step of a walk: the picture, its change from the start, and the signed gap on each backend.

    ``start`` and ``point`` are uint8 (H, W, 3); ``logits`` (backends, classes) of the point. The gap is that between
    the two leading classes, on a symmetric logarithmic axis: which side of zero a backend lies on is
    what it predicts.
    """
    import matplotlib.pyplot as plt

    first, second = np.sort(np.argsort(-logits[0].astype(np.float64), kind="stable")[:2])
    figure, places = plt.subplot_mosaic("ab;cc", figsize=(5.4, 4.9), height_ratios=(1.35, 1))
    axes = [places[key] for key in "abc"]
    axes[0].imshow(point)
    axes[0].set_title("picture", fontsize=9)
    change = point.astype(int) - start
    axes[1].imshow(np.clip(0.5 + change / (2 * CHANGE_RANGE), 0, 1))
    axes[1].set_title(
        f"{np.count_nonzero(change)} values changed,\nby {np.abs(change).max()} of 255 at most", fontsize=9
    )
    for axis in axes[:2]:
        axis.set_axis_off()
    gaps = logits[:, first].astype(np.float64) - logits[:, second]
    for row, (name, gap) in enumerate(zip(backends, gaps, strict=True)):
        said = classes[first] if gap >= 0 else classes[second]  # a tie goes to the lower class, as in argmax
        axes[2].plot(gap, row, "o", color=COLOURS[row], markersize=9)
        axes[2].annotate(
            f"{name}: {said} ({gap:+.1e})", (0.02, row), xycoords=("axes fraction", "data"),
            xytext=(0, 9), textcoords="offset points", fontsize=9, bbox={"color": "white", "pad": 1},
        )  # fmt: skip
    axes[2].axvline(0, color="black", linewidth=1)
    axes[2].set_xscale("symlog", linthresh=1e-6)
    axes[2].set(xlim=(-GAP_RANGE, GAP_RANGE), ylim=(-0.5, len(backends) - 0.2), yticks=[])
    ticks = [-1, -1e-2, -1e-4, -1e-6, 0, 1e-6, 1e-4, 1e-2, 1]
    axes[2].set_xticks(ticks, ["$-1$", "$-10^{-2}$", "$-10^{-4}$", "", "0", "", "$10^{-4}$", "$10^{-2}$", "1"])
    axes[2].set_xlabel(f"logit gap: {classes[second]} (left) or {classes[first]} (right)")
    return figure


def strategies(summaries: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Share of starts that became chimeras, and the forward evaluations each strategy spent, with 95 % intervals."""
    import matplotlib.pyplot as plt

    names = list(summaries)
    rows = np.arange(len(names))[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(8, 0.42 * len(names) + 1.4), sharey=True)
    for row, name in zip(rows, names, strict=True):
        one = summaries[name]
        colour = COLOURS[1] if name == "lattice" else COLOURS[0]
        draw_interval(axes[0], row, one["rate"], one["rate_ci"], colour, 100)
        draw_interval(axes[1], row, one["median_evaluations"], one["median_evaluations_ci"], colour, 1)
    axes[0].set_yticks(rows, [name.replace("_", " ") for name in names])
    axes[0].set(xlabel="starts that became a chimera (%)", xlim=(-3, 103))
    axes[1].set(xlabel="forward evaluations a start\n(median, log scale)", xscale="log")
    return figure


def cost_against_finds(summaries: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each strategy's share of starts that became chimeras against its median CPU-seconds a start, numbered."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.2))
    taken: list[tuple[float, float]] = []  # cost and share of the points drawn, to keep their numbers apart
    for number, (name, one) in enumerate(summaries.items(), start=1):
        colour = COLOURS[1] if name == "lattice" else COLOURS[0]
        cost, rate = one["median_cpu_seconds"], 100 * one["rate"]
        low, high = one["rate_ci"]
        error = [[max(0.0, rate - 100 * low)], [max(0.0, 100 * high - rate)]]
        axis.errorbar(cost, rate, yerr=error, color=colour, alpha=0.3, capsize=2, linewidth=1)
        axis.plot(cost, rate, "o", color=colour, markersize=6, label=f"{number}  {name.replace('_', ' ')}")
        near = sum(abs(rate - other) < 8 and 0.88 < cost / what < 1.14 for what, other in taken)
        taken.append((cost, rate))
        up = (10 + 12 * near) * (1 if rate >= 50 else -1)
        axis.annotate(str(number), (cost, rate), (0, up), textcoords="offset points", ha="center", va="center")
    axis.set(xscale="log", xlabel="CPU-seconds a start (median, log scale)", ylim=(-22, 122))
    axis.set_ylabel("starts that became a chimera (%)")
    axis.set_yticks(range(0, 101, 20))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=0, handletextpad=0, markerscale=0)
    return figure


def draw_interval(
    axis: Axes, row: float, value: float, interval: Sequence[float] | None, colour: str, scale: float
) -> None:
    """A point with its interval (none where there is none to give), times ``scale``."""
    low, high = interval or (value, value)
    error = [[max(0.0, value - low) * scale], [max(0.0, high - value) * scale]]
    axis.errorbar(value * scale, row, xerr=error, fmt="o", color=colour, markersize=6)


def gallery(
    images: np.ndarray, predictions: Sequence[Mapping[str, int]], classes: Sequence[str], columns: int = 5
) -> Figure:
    """Chimeras, uint8 (N, H, W, 3), each titled with what every backend calls it."""
    from chimera_lib.plotting import pictures

    titles = ["\n".join(f"{name}: {classes[said]}" for name, said in row.items()) for row in predictions]
    return pictures(images, titles, columns=columns)
