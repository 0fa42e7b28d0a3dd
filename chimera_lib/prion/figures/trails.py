"""Treatments as training goes on, and the verdicts on them as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from chimera_lib.plotting import COLOURS
from chimera_lib.prion.figures import labels
from chimera_lib.prion.figures.damage import mean_and_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.prion.analysis.verdicts import Verdict
    from chimera_lib.prion.experiment import Outcome

RELATIONS = {"differs": "different", "differs within the margin": "different, within margin"}


def steps(outcomes: Sequence[Outcome]) -> list[int]:
    """The numbers of steps after which all runs were measured, 0 left out."""
    common = set.intersection(*(set(one.trail) for one in outcomes))
    return sorted(common - {0})


def after(groups: Mapping[str, Sequence[Outcome]], step: int) -> Figure:
    """Damage by treatment after a number of steps; the axes are those of the last step, so that frames compare.

    Args:
        groups: treatment to its runs, with measures along their way.
        step: one of `steps`.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 0.36 * len(groups) + 1.0))
    axis.axvline(0, color="#000000", linewidth=1)
    farthest = 0.1
    for place, (name, runs) in enumerate(groups.items()):
        colour = labels.COLOUR.get(name, COLOURS[0])
        mean_and_interval(axis, [change(one, step) for one in runs], place, colour)
        last = [change(one, max(one.trail)) for one in runs]
        farthest = max(farthest, *last)
        axis.plot(sum(last) / len(last), place, "|", color=colour, alpha=0.4, markersize=12)
    axis.set_yticks(range(len(groups)), [labels.TREATMENTS[name] for name in groups])
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set(xlim=(-0.05 * farthest, 1.08 * farthest), xlabel=labels.DAMAGE, title=f"after {step} steps")
    return figure


def judged(kinds: Mapping[str, Sequence[Verdict]], *, unit: str = "nats") -> list[dict[str, Any]]:
    """A row a verdict, for a table.

    Args:
        kinds: how the two were compared, to the verdicts.
        unit: of the effects.
    """
    return [
        {
            "control": one.name,
            "at": kind,
            f"difference ({unit})": one.effect,
            "95 % interval": f"{one.interval.low:+.3f} to {one.interval.high:+.3f}" if one.interval else "none",
            "Hedges g": math.nan if one.g is None else one.g,
            "p (Holm)": math.nan if one.p_holm is None else one.p_holm,
            "the two are": RELATIONS.get(one.relation, one.relation),
            "claim": one.answer,
        }
        for kind, found in kinds.items()
        for one in found
    ]


def change(outcome: Outcome, step: int) -> float:
    """Change of the held-out log-perplexity after a number of steps, nats."""
    first = outcome.trail[min(outcome.trail)]
    return outcome.trail[step]["log_perplexity"] - first["log_perplexity"]
