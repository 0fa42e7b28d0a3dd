"""Figures of the analyses; each function takes measured results and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.images.analysis import pockets as pocket_widths
from chimera_lib.images.analysis.directions import LEVEL
from chimera_lib.images.analysis.products import UNIT
from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.images.analysis.layers import Layer
    from chimera_lib.images.analysis.maps import Map
    from chimera_lib.images.analysis.pockets import Pocket
    from chimera_lib.images.analysis.products import Growth
    from chimera_lib.images.analysis.transfer import Cell

SAME = ("#E8E8E8", "#B5B5B5", "#7A7A7A")  # all backends agree: on the first class, the second, another


def pockets(found: Sequence[Pocket]) -> Figure:
    """Widths of pockets in ULP (left, a row a direction) and the share in conflict against distance (right).

    A short bar is the median; the shaded range is the sources' 1 to 10,000 ULP.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(p.direction for p in found))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1.15, 1))
    axes[0].axvspan(*pocket_widths.CLAIM, color="#DDDDDD", alpha=0.6, linewidth=0)
    edges = 2.0 ** np.arange(-0.5, 18)
    for row, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        widths = np.minimum(pocket_widths.widths(found, name), 2 * pocket_widths.REACH)
        counts = np.histogram(widths, edges)[0]
        axes[0].bar(
            edges[:-1],
            0.85 * counts / max(counts.max(), 1),
            np.diff(edges),
            -row,
            align="edge",
            color=colour,
            alpha=0.75,
        )
        axes[0].plot([np.median(widths)] * 2, [-row, -row + 0.9], color="black", linewidth=1.6)
        distances, share, _ = pocket_widths.share_at(found, name)
        axes[1].plot(np.maximum(distances, 0.5), 100 * share, ".-", color=colour, label=name, linewidth=1.2)
    axes[0].set_yticks([0.3 - row for row in range(len(names))], names)
    axes[0].set(xscale="log", xlim=(0.5, 1.6 * pocket_widths.REACH), xlabel="width of the pocket (ULP, log scale)")
    axes[0].grid(axis="y", visible=False)
    levels = axes[0].secondary_xaxis("top", functions=(lambda x: x / LEVEL, lambda x: x * LEVEL))
    levels.set_xlabel("8-bit brightness steps")
    axes[1].set(xscale="log", xlim=(0.4, 1.6 * pocket_widths.REACH), ylim=(-3, 103))
    ticks = [0.5, 1, 10, 100, 1000, 10_000]
    axes[1].set_xticks(ticks, ["0", "1", "10", "100", "1,000", "10,000"])
    axes[1].minorticks_off()
    axes[1].set(xlabel="distance from the chimera (ULP, log scale)", ylabel="looks that are a conflict (%)")
    axes[1].legend(title="direction", loc="upper right")
    return figure


def boundary_map(
    drawn: Map, classes: Sequence[str], axes: Sequence[str] = ("one value", "another value"), title: str = ""
) -> Figure:
    """A plane through a chimera (the cross), grey where all backends agree, in colour where they do not."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    mixed = 2 ** (len(drawn.names) - 1) - 1
    colours = [*SAME, *(COLOURS[i % len(COLOURS)] for i in range(mixed))]
    figure, axis = plt.subplots(figsize=(6.6, 4.3))
    edge = float(drawn.offsets[-1]) * len(drawn.offsets) / (len(drawn.offsets) - 1)
    axis.imshow(
        drawn.codes(), origin="lower", extent=(-edge, edge, -edge, edge),
        cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5,
    )  # fmt: skip
    axis.plot(0, 0, "+", color="black", markersize=11, markeredgewidth=1.6)
    axis.set(xlabel=f"{axes[0]} (ULP)", ylabel=f"{axes[1]} (ULP)", title=title)
    ticks = [-float(drawn.offsets[-1]), 0.0, float(drawn.offsets[-1])]
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=90)
    for across, up, ha, va in zip(
        axis.get_xticklabels(),
        axis.get_yticklabels(),
        ("left", "center", "right"),
        ("bottom", "center", "top"),
        strict=True,
    ):
        across.set(ha=ha)
        up.set(va=va)
    axis.grid(visible=False)
    said = [f"all say {classes[c]}" for c in drawn.classes] + ["all say another class"]
    said += [who_differs(drawn.names, pattern) for pattern in range(1, mixed + 1)]
    patches = [Patch(color=colour, label=label) for colour, label in zip(colours, said, strict=True)]
    axis.legend(handles=patches, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def who_differs(names: Sequence[str], pattern: int) -> str:
    """The words for a pattern of ``Map.codes``: the smaller side of the split."""
    others = [name for bit, name in enumerate(names[1:]) if pattern >> bit & 1]
    rest = [name for name in names if name not in others]
    fewer = others if len(others) < len(rest) else rest
    return f"{' and '.join(fewer)} differ{'s' if len(fewer) == 1 else ''}"


def layers(found: Mapping[str, Sequence[Layer]]) -> Figure:
    """Relative difference (top) and share of differing values (bottom) after every operation; a line a pair.

    Points are medians over the images, bars quartiles; filled points are matrix products.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(8.2, 5.4), sharex=True, height_ratios=(1.4, 1))
    for (name, each), colour in zip(found.items(), COLOURS, strict=False):
        x = np.arange(len(each))
        low, middle, high = np.quantile([layer.relative for layer in each], [0.25, 0.5, 0.75], axis=1)
        drawn = np.where(middle > 0, middle, np.nan)
        axes[0].errorbar(x, drawn, [middle - low, high - middle], color=colour, linewidth=1, label=name, capsize=2)
        product = np.array([layer.terms > 0 for layer in each])
        axes[0].plot(x[product], drawn[product], "o", color=colour, markersize=6)
        axes[0].plot(x[~product], drawn[~product], "o", color=colour, markersize=4, markerfacecolor="white")
        axes[1].plot(x, [100 * np.median(layer.differing) for layer in each], ".-", color=colour, linewidth=1)
    axes[0].axhline(UNIT, color="black", linestyle=":", linewidth=1)
    axes[0].annotate("u = 2⁻²⁴", (0, UNIT), xytext=(2, 4), textcoords="offset points", fontsize=8)
    axes[0].set(yscale="log", ylabel="difference, relative\nto the values (rms)")
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes[1].set(ylim=(0, 100), ylabel="values that\ndiffer (%)")
    kinds = [layer.kind.replace("_", " ") + (f", K = {layer.terms}" if layer.terms else "") for layer in each]
    axes[1].set_xticks(x, kinds, rotation=90, fontsize=8)
    return figure


def growth(found: Sequence[Growth]) -> Figure:
    """Relative difference of one product against K, with each fitted line, the square root and the bound."""
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(one.kind for one in found))
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds) + 0.6, 3.9), sharey=True, squeeze=False)
    titles = {"random": "random matrices", "activations": "the network's own"}
    for axis, kind in zip(axes[0], kinds, strict=True):
        mine = [one for one in found if one.kind == kind]
        for one, colour in zip(mine, COLOURS, strict=False):
            middle = np.exp(np.log(np.maximum(one.relative, 1e-30)).mean(1))
            some = (one.relative > 0).all(1)
            slope, (low, high) = one.slope, one.interval
            label = f"{one.pair[0]}, {one.pair[1]}"
            if np.isfinite(slope):
                label += f": slope {slope:.2f} ({low:.2f} to {high:.2f})"
            axis.plot(one.terms[some], middle[some], "o", color=colour, label=label, markersize=5)
            if np.isfinite(slope):
                centre = np.log(middle[some]).mean() - slope * np.log(one.terms[some]).mean()
                axis.plot(one.terms[some], np.exp(centre) * one.terms[some] ** slope, color=colour, linewidth=1)
        axis.plot(mine[0].terms, np.sqrt(mine[0].terms) * UNIT, "--", color="black", linewidth=1, label="√K u")
        axis.plot(mine[0].terms, mine[0].bound, ":", color="black", linewidth=1.4, label="bound")
        axis.set(xscale="log", yscale="log", xlabel="K, terms in a sum (log scale)", title=titles[kind])
        ticks = [k for k in (32, 128, 512, 2048) if mine[0].terms[0] <= k <= mine[0].terms[-1]]
        axis.set_xticks(ticks, [f"{k:,}" for k in ticks])
        axis.minorticks_off()
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)
    axes[0][0].set_ylabel("difference, relative to the product\n(rms, log scale)")
    return figure


def criteria(summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Each criterion against each control group, with 95 % intervals: dots within walks, diamonds the AUROC."""
    import matplotlib.pyplot as plt

    controls = list(dict.fromkeys(row["control"] for row in summary))
    names = list(dict.fromkeys(row["criterion"] for row in summary))
    figure, axis = plt.subplots(figsize=(7, 0.95 * len(controls) + 1.8))
    axis.axvline(0.5, color="black", linestyle="--", linewidth=1)
    for row in summary:
        i, j = controls.index(row["control"]), names.index(row["criterion"])
        for key, ci, marker, drop in (("first", "first_ci", "o", 0.0), ("auroc", "ci", "D", 0.11)):
            low, high = row[ci]
            error = [[max(0.0, row[key] - low)], [max(0.0, high - row[key])]]
            label = row["criterion"].replace("_", " ").replace("top3", "top-3") if i == 0 and marker == "o" else None
            face = COLOURS[j] if marker == "o" else "white"
            axis.errorbar(
                row[key],
                -i - 0.26 * (j - 1) - drop,
                xerr=error,
                fmt=marker,
                color=COLOURS[j],
                mfc=face,
                ms=5,
                label=label,
            )
    axis.set_yticks([-i for i in range(len(controls))], controls)
    axis.set(xlim=(-0.03, 1.03), ylim=(-len(controls) + 0.5, 0.5))
    axis.set_xlabel("chimera ranked first: of its own walk (dots), of any two (diamonds, AUROC)")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left")
    return figure


def transfer(cells: Sequence[Cell]) -> Figure:
    """Searched-on against tested-on: share still a chimera, n and interval in every cell; brackets: not held out."""
    import matplotlib.pyplot as plt

    labels = list(dict.fromkeys(cell.label for cell in cells))
    pairs = list(dict.fromkeys(cell.pair for cell in cells))
    figure, axis = plt.subplots(figsize=(1.35 * len(pairs) + 2.6, 0.85 * len(labels) + 2))
    rates = np.full((len(labels), len(pairs)), np.nan)
    for cell in cells:
        i, j = labels.index(cell.label), pairs.index(cell.pair)
        rates[i, j] = 100 * cell.rate
        low, high = cell.interval
        text = f"{cell.rate:.0%}" if cell.held_out else f"[{cell.rate:.0%}]"
        colour = "white" if cell.rate < 0.55 else "black"
        axis.annotate(text, (j, i - 0.16), ha="center", va="center", color=colour, fontsize=11)
        said = f"{100 * low:.0f} to {100 * high:.0f} %\nn = {len(cell.conflict)}"
        axis.annotate(said, (j, i + 0.2), ha="center", va="center", color=colour, fontsize=7.5)
    image = axis.imshow(rates, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(pairs)), [f"{a}\n{b}" for a, b in pairs], fontsize=8)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="tested on (in brackets: shares a bit class with the search)", ylabel="searched")
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, label="still a chimera (%)")
    return figure
