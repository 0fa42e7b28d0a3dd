"""The published runs with their signs, and the contributions of single faults."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.plotting import COLOURS
from chimera_lib.prion.analysis import published
from chimera_lib.prion.analysis.runs import RANK_REDUCTION, values
from chimera_lib.prion.figures import labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.prion.cascade import Step

SOURCE = {2: "placebo", 3: "mechanism", 4: "shield"}
BY_CONSTRUCTION = "zero by construction"


def sizes(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Every published run of the scaling law, the signed means, and the published means of magnitudes.

    Args:
        rows: as `published.sizes` gives them.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 3.2))
    axis.axvline(0, color="#000000", linewidth=1)
    runs = published.runs(1)
    for place, row in enumerate(rows):
        members = [one for one in runs if (one.model, one.learning_rate) == (row["model"], row["learning_rate"])]
        found = values(members, RANK_REDUCTION)
        axis.plot(found, [place + 0.2] * len(found), ".", color=COLOURS[0], alpha=0.5, label="a run")
        error = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        axis.errorbar(row["mean"], place, xerr=error, fmt="o", color=COLOURS[0], label="signed mean, 95 % interval")
        axis.plot(row["mean_absolute"], place, "x", color=COLOURS[1], label="published mean of magnitudes")
    axis.set_yticks(range(len(rows)), [f"{row['model']}, rate {row['learning_rate']:g}" for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set(xlabel="reduction of effective rank (%); negative: the rank rose")
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))  # one of each label
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


def as_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same as a table."""
    return [
        {
            "model": row["model"],
            "learning rate": row["learning_rate"],
            "n": row["n"],
            "mean (%)": row["mean"],
            "low": row["low"],
            "high": row["high"],
            "mean of magnitudes (%)": row["mean_absolute"],
            "runs whose rank rose": row["rank_rose"],
        }
        for row in rows
    ]


def tests(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tests of the other priorities as a table; rows as `published.comparisons` gives them."""
    return [
        {
            "priority": f"{row['priority']} {SOURCE[row['priority']]}",
            "groups": row["comparison"],
            "runs": row["n"],
            "test": row["test"],
            "p, signed": row["p_signed"],
            "p, magnitudes": row["p_absolute"],
            "p, pairs (Holm)": row["p_holm"],
        }
        for row in rows
    ]


def confounds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What else differs between the groups of each priority, a row a thing; rows as of `published.comparisons`."""
    return [
        {"priority": f"{row['priority']} {SOURCE[row['priority']]}", "what else differs": sentence}
        for row in rows
        for sentence in row["confounds"].split("; ")
        if sentence
    ]


def contributions(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """A row a fault: what mending it changed, of the effect as reported and of the measure that does not change."""
    rows = []
    for before, after in itertools.pairwise(steps):
        reported, damage = np.subtract(after.headline, before.headline), np.subtract(after.damage, before.damage)
        rows.append(
            {
                "mended": labels.FAULTS[after.name],
                "reported (%)": float(reported.mean()),
                "95 % interval": BY_CONSTRUCTION if after.acts_on == "nothing" else _range(reported, 1),
                "log-perplexity (nats)": float(damage.mean()),
                "its 95 % interval": BY_CONSTRUCTION if after.acts_on != "runs" else _range(damage, 3),
            }
        )
    return rows


def largest(steps: Sequence[Step]) -> str:
    """The name of the fault whose mending changed the reported effect most."""
    changes = {two.name: abs(np.mean(two.headline) - np.mean(one.headline)) for one, two in itertools.pairwise(steps)}
    return max(changes, key=changes.__getitem__)


def _range(values: np.ndarray, digits: int) -> str:
    low, high = stats.student(values)
    return "none: nothing changed" if low == high == 0 else f"{low:+.{digits}f} to {high:+.{digits}f}"


def pair(step: Step) -> Figure:
    """Catalyst and control of one step, by seed: held-out log-perplexity."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 2.6))
    axis.axvline(0, color="#000000", linewidth=1)
    for place, (name, found, colour) in enumerate(
        (("catalyst", step.treated, labels.COLOUR["eigen_prion"]), ("Gaussian noise", step.control, COLOURS[1]))
    ):
        axis.plot(found, [place] * len(found), "o", color=colour, alpha=0.6)
        axis.text(0, place - 0.28, f"  {name}: mean {np.mean(found):+.3f} nats", fontsize=9)
    for one, two in zip(step.treated, step.control, strict=True):
        axis.plot([one, two], [0, 1], color="#999999", linewidth=0.7)
    axis.set_yticks([])
    axis.set_ylim(1.4, -0.6)
    reported = f"{np.mean(step.headline):+.1f} %"
    axis.set(xlabel=labels.DAMAGE, title=f"{labels.FAULTS[step.name]}: reported effect on rank {reported}")
    return figure
