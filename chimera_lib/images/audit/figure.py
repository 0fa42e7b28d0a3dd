"""The figure of an audit: margins against noise, and the line from one to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from chimera_lib.images.audit.result import Audit


def margins(found: Audit, *, dark: bool = False) -> Figure:
    """Share of images below each margin, on two logarithmic axes, beside the backends' noise.

    The dashed line is the density of the smallest margins carried on down to zero: where it meets half the mean
    spread, its height is the share of conflicts to expect. ``dark`` draws for a dark page.
    """
    import matplotlib.pyplot as plt

    ink, paper = ("#E6E6E6", "#16181D") if dark else ("#222222", "#FFFFFF")
    blue, red, green = ("#56B4E9", "#FF9A5C", "#2FD6A5") if dark else (COLOURS[0], COLOURS[1], COLOURS[2])
    colours: dict[Any, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": ink,
    }
    with plt.rc_context({**colours, "figure.facecolor": paper, "axes.facecolor": paper, "savefig.facecolor": paper}):
        figure, axis = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
        ordered, count = np.sort(found.margins), len(found.names)
        seen = ordered > 0
        axis.plot(ordered[seen], (np.arange(count)[seen] + 1) / count, ".-", color=blue, ms=5, lw=1, label="margins")
        noise = found.pairwise()
        noise = noise[noise > 0]
        if len(noise):
            low, high = np.quantile(noise, [0.01, 0.99])
            axis.axvspan(low, high, color=green, alpha=0.3, linewidth=0, label="differences between backends")
        expected = found.extrapolated
        if expected and expected.rate > 0:
            x = np.array([expected.spread / 2, ordered[expected.k - 1]])
            axis.plot(x, expected.density * x, "--", color=red, lw=1.6, label="carried on at the same density")
            axis.plot(x[0], expected.rate, "o", color=red, ms=7, label="conflicts to expect")
        axis.set(xscale="log", yscale="log", ylabel="share of images below")
        axis.set_xlabel("difference of the two highest logits (logit units)")
        axis.set_ylim(top=2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=ink, alpha=0.15)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def says(found: Audit) -> str:
    """What the figure shows, for those who cannot see it."""
    expected = found.extrapolated
    text = (
        f"Margins of {len(found.names)} images run from {found.margins.min():.2g} to {found.margins.max():.2g} logits; "
        f"the backends' noise is {found.noise:.1e}."
    )
    if expected and expected.rate > 0:
        text += f" A dashed line carries the margins' density down to the noise, at a share of {expected.rate:.1e}."
    return text
