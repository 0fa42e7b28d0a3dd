"""The figures of notebook 01, the gate: each takes measured numbers and returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.plotting import COLOURS
from chimera_lib.ternary.optimizers.gate import noise_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.stats import Interval

__all__ = ["floor", "kappa_frame", "signals", "storage"]


def floor(
    course: np.ndarray, expected: np.ndarray, betas: Sequence[float], means: Sequence[float], cis: Sequence[Interval]
) -> Figure:
    """Left, ψ on noise step by step, measured and expected; right, where it settles, by β₁.

    Args:
        course: mean ψ after each step, shape (steps,).
        expected: the same by theory, shape (steps,).
        betas: values of β₁ that were measured, each in [0, 1).
        means: ψ at the end for each.
        cis: 95 % intervals of those.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), sharey=False)
    steps = np.arange(1, len(course) + 1)
    left.plot(steps, expected, color=COLOURS[1], label="theory")
    left.plot(steps, course, color=COLOURS[0], linestyle="", marker="o", markersize=2.5, label="measured")
    left.axhline(expected[-1], color="#777777", linestyle=":", linewidth=1.2)
    left.set(xlabel="step", ylabel="ψ on pure noise (mean)", title="step by step", ylim=(0, None))
    left.legend(loc="lower right")
    line = np.linspace(0, 0.999, 400)
    right.plot(line, [noise_floor(float(beta)) for beta in line], color=COLOURS[1], label="theory")
    errors = np.abs(np.array([[m - ci.low, ci.high - m] for m, ci in zip(means, cis, strict=True)])).T
    right.errorbar(betas, means, errors, fmt="o", color=COLOURS[0], markersize=4, label="measured")
    right.set(xlabel="β₁ (memory of the momentum)", ylabel="ψ on pure noise (settled)", title="by β₁", ylim=(0, 1.05))
    right.legend(loc="lower left")
    return figure


def signals(courses: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """ψ against step: a panel for each signal, a line for each way to take agreement.

    Args:
        courses: signal, then name of the line, to mean ψ after each step, shape (steps,).
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(courses), figsize=(7.2, 3.3), sharey=True, squeeze=False)
    styles: tuple[dict[str, Any], ...] = ({"linewidth": 3.2, "alpha": 0.75}, {"linestyle": "--", "linewidth": 1.8})
    for axis, (signal, lines) in zip(axes[0], courses.items(), strict=True):
        for colour, style, (name, psi) in zip(COLOURS, styles, lines.items(), strict=False):
            axis.plot(np.arange(1, len(psi) + 1), psi, color=colour, label=name, **style)
        axis.set(title=signal, xlabel="step", ylim=(-1.08, 1.08))
        axis.axhline(0, color="#777777", linewidth=0.8)
    axes[0][0].set(ylabel="ψ (mean agreement)")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def kappa_frame(kappas: Mapping[str, np.ndarray], title: str, span: tuple[float, float]) -> Figure:
    """The distribution of κ over coordinates that see noise, one panel for each variant of the gate.

    Args:
        kappas: variant to κ of each coordinate, shape (coordinates,).
        title: what is turned, above the panels.
        span: ends of the horizontal axis, the same for every frame.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(kappas), 1, figsize=(7, 1.35 * len(kappas) + 1), sharex=True, squeeze=False)
    bins = np.linspace(*span, 91)
    for colour, axis, (name, kappa) in zip(COLOURS, axes[:, 0], kappas.items(), strict=False):
        shares = np.full(kappa.size, 1 / kappa.size)
        axis.hist(np.clip(kappa, *span), bins=bins, weights=shares, color=colour, alpha=0.75)
        axis.axvline(1, color="#000000", linewidth=1)
        axis.axvline(kappa.mean(), color=colour, linewidth=1.8, linestyle="--")
        axis.set_title(f"{name}: mean κ {kappa.mean():.4f}", loc="left", fontsize=10)
        axis.set(ylabel="share", xlim=span)
        axis.set_yticks([])
    axes[-1, 0].set_xlabel("κ, the factor on the step (solid line: 1, dashed: the mean)")
    figure.suptitle(title, fontsize=11)
    return figure


def storage(courses: Mapping[float, Mapping[str, np.ndarray]]) -> Figure:
    """ψ in units of its codes against step under full agreement, a panel for each rho, a line for each storage.

    Args:
        courses: rho, then name of the line, to mean ψ after each step, shape (steps,), in [-1, 1].
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(courses), figsize=(7.2, 3.4), sharey=True, squeeze=False)
    styles: tuple[dict[str, Any], ...] = (
        {"color": "#000000", "linewidth": 1.2},
        {"color": COLOURS[1], "linewidth": 2.4},
        {"color": COLOURS[0], "linewidth": 2.4, "linestyle": "--"},
    )
    for axis, (rho, lines) in zip(axes[0], courses.items(), strict=True):
        for style, (name, psi) in zip(styles, lines.items(), strict=True):
            axis.plot(np.arange(1, len(psi) + 1), 127 * psi, label=name, **style)
        axis.set(title=rf"$\rho$ = {rho}", xlabel="step", ylim=(-4, 134))
    axes[0][0].set_ylabel("127ψ (codes)")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure
