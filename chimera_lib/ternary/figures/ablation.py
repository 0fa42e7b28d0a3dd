"""Figures of the ablation: its cells, its effects, its variance, and what a confounded comparison would have said."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.plotting import COLOURS
from chimera_lib.ternary.experiments import effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

Row = dict[str, Any]

NAMES = {
    "adamw": "AdamW",
    "cautious_adamw": "Cautious AdamW",
    "grams": "Grams",
    "lion": "Lion",
    "sgd_momentum": "SGD, momentum",
    "chimera21": "Chimera 2.1",
    "chimera21_neutral": "Chimera 2.1, neutral",
    "fp32_baseline": "full precision",
    "strict_bitnet": "BitNet",
    "chimera": "Chimera",
    "none": "activations as they are",
    "int8": "activations in 8 bits",
    "as_published": "8 bits, no gradient",
}
FACTORS = {"optimizer": "optimizer", "mode": "weights", "activation": "activations"}
CHANCE = 10.0  # percent, of ten classes


def said(name: str) -> str:
    """A level's name as a reader knows it."""
    return NAMES.get(name, name)


def contrast(row: Row) -> str:
    """An effect's two levels, without the words that both have in common."""
    level, reference = said(row["level"]), said(row["reference"])
    return f"{level} − {reference.removeprefix('activations ')}"  # noqa: RUF001


def cells(rows: Sequence[Row]) -> Figure:
    """Test accuracy of every cell: a panel for each activation, a colour for each quantizer, a place for an optimizer.

    Dots are seeds, dashes their means; the dotted line is chance.
    """
    import matplotlib.pyplot as plt

    activations = effects.levels(rows, "activation")
    optimizers, modes = effects.levels(rows, "optimizer"), effects.levels(rows, "mode")
    size = (7.0, 1.2 + 0.42 * len(optimizers) * len(activations))
    figure, axes = plt.subplots(len(activations), 1, figsize=size, sharex=True, squeeze=False)
    for axis, activation in zip(axes[:, 0], activations, strict=True):
        for (place, optimizer), (shift, mode) in itertools.product(enumerate(optimizers), enumerate(modes)):
            values = 100 * effects.by_seed(rows, optimizer=optimizer, mode=mode, activation=activation)
            height = place + 0.22 * (shift - (len(modes) - 1) / 2)
            label = said(mode) if place == 0 and activation == activations[0] else None
            axis.plot(values, [height] * len(values), "o", ms=4, alpha=0.6, color=COLOURS[shift], label=label)
            axis.plot([values.mean()], [height], "|", ms=11, mew=2.5, color=COLOURS[shift])
        axis.axvline(CHANCE, color="black", ls=":", lw=1)
        axis.set_yticks(range(len(optimizers)), [said(name) for name in optimizers])
        axis.set_ylim(len(optimizers) - 0.5, -0.5)
        axis.set_title(said(activation).capitalize(), loc="left")
    axes[-1, 0].set_xlabel("test accuracy, % (dotted: chance)")
    axes[-1, 0].set_xlim(left=0)
    figure.legend(loc="outside upper center", ncols=len(modes), title="weights")
    return figure


def main_effects(rows: Sequence[Row]) -> Figure:
    """Points of accuracy that each level adds to its factor's reference, with 95 % intervals over the seeds."""
    import matplotlib.pyplot as plt

    found = effects.main_effects(rows)
    figure, axis = plt.subplots(figsize=(7.0, 1.1 + 0.36 * len(found)))
    for place, row in enumerate(found):
        low, high = row["ci"] or (row["effect"], row["effect"])
        colour = COLOURS[list(effects.FACTORS).index(row["factor"])]
        value = 100 * row["effect"]
        axis.errorbar(value, place, xerr=[[value - 100 * low], [100 * high - value]], fmt="o", color=colour)
    axis.axvline(0, color="black", lw=1)
    axis.set_yticks(range(len(found)), [contrast(row) for row in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel("effect on test accuracy, points\n(bars: 95 %, Student over seeds)")
    return figure


def variance(rows: Sequence[Row]) -> Figure:
    """Share of the variance of all runs' accuracies by its source, and what chance alone would give each."""
    import matplotlib.pyplot as plt

    found = effects.variance_shares(rows)
    figure, axis = plt.subplots(figsize=(7.0, 1.1 + 0.32 * len(found)))
    names = [" × ".join(FACTORS.get(part, part) for part in row["source"].split(" by ")) for row in found]  # noqa: RUF001
    axis.barh(range(len(found)), [100 * row["share"] for row in found], color=COLOURS[0])
    expected = [(place, 100 * row["spurious"]) for place, row in enumerate(found) if row["spurious"] is not None]
    axis.plot([x for _, x in expected], [place for place, _ in expected], "|", ms=13, mew=2.5, color=COLOURS[1],
              label="expected of a source without effect")  # fmt: skip
    axis.set_yticks(range(len(found)), names)
    axis.invert_yaxis()
    axis.set_xlabel("share of the sum of squares, %")
    axis.legend(loc="lower right")
    return figure


def confounded_differences(rows: Sequence[Row], level: str, reference: str) -> np.ndarray:
    """``level`` less ``reference`` of mode in every pair of runs that also differ in seed and optimizer; shape (P,).

    Activations are the same in both runs of a pair.
    """
    ours, theirs = ([row for row in rows if row["mode"] == mode] for mode in (level, reference))
    pairs = itertools.product(ours, theirs)
    return np.array(
        [
            effects.accuracy(one) - effects.accuracy(two)
            for one, two in pairs
            if one["activation"] == two["activation"]
            and one["seed"] != two["seed"]
            and one["optimizer"] != two["optimizer"]
        ]
    )


def confounded(rows: Sequence[Row], level: str = "chimera", reference: str = "strict_bitnet") -> Figure:
    """What single confounded pairs would have said of ``level`` against ``reference``, and what the ablation says."""
    import matplotlib.pyplot as plt

    differences = 100 * confounded_differences(rows, level, reference)
    effect = effects.within(rows, "mode", level, reference)
    figure, axis = plt.subplots(figsize=(7.0, 2.6))
    axis.hist(differences, bins=21, color=COLOURS[5])
    axis.axvline(100 * effect["effect"], color=COLOURS[1], lw=2.5, label="crossed, same seeds")
    if effect["ci"]:
        axis.axvspan(100 * effect["ci"][0], 100 * effect["ci"][1], color=COLOURS[1], alpha=0.2)
    axis.axvline(0, color="black", lw=1)
    axis.set_xlabel(f"{said(level)} less {said(reference)}, points of accuracy")
    axis.set_ylabel("pairs of runs")
    axis.legend()
    return figure
