"""Optimizers at one rate, and where each has moved the weights equally far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from chimera_lib.plotting import COLOURS
from chimera_lib.prion import comparison, matching
from chimera_lib.prion.analysis import movement, verdicts
from chimera_lib.prion.figures import labels, trails
from chimera_lib.prion.figures.damage import mean_and_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.prion.analysis.verdicts import Verdict
    from chimera_lib.prion.experiment import Outcome

MARGIN = comparison.MARGINS["log_perplexity_change"]
ByOptimizer = dict[str, list["Outcome"]]


def at_rate(outcomes: Sequence[Outcome], rate: float) -> list[dict[str, Any]]:
    """A row an optimizer at one learning rate: damage with its interval, distance, whether it is within the margin.

    The equivalence tests are corrected by Holm's method over the optimizers. An optimizer is not called within the
    margin on fewer than five runs, nor where its weights moved less than a tenth as far as the farthest did.

    Args:
        outcomes: runs of one treatment.
        rate: the learning rate.
    """
    runs = {name: [one for one in outcomes if (one.setting.optimizer, one.setting.rate) == (name, rate)]
            for name in labels.OPTIMIZERS}  # fmt: skip
    moved = {name: comparison.distance(members) for name, members in runs.items() if members}
    farthest = max(moved.values(), default=0.0)
    found = [
        verdicts.against_zero(
            [one.log_perplexity_change for one in runs[name]],
            name=labels.OPTIMIZERS[name],
            margin=MARGIN,
            claim="equivalent",
            moved=movement.of(way, farthest),
        )
        for name, way in moved.items()
    ]
    return [
        {
            "optimizer": verdict.name,
            "log-perplexity (nats)": verdict.effect,
            "low": verdict.interval.low if verdict.interval else math.nan,
            "high": verdict.interval.high if verdict.interval else math.nan,
            "n": verdict.n[0],
            "within 0.1 nats": _within(verdict),
            "change of the weights": way,
        }
        for verdict, way in zip(verdicts.holm_all(found), moved.values(), strict=True)
    ]


def _within(verdict: Verdict) -> str:
    """``yes``; ``not shown``; or why effects within the margin do not show it."""
    if verdict.equivalent or not verdict.within:
        return "yes" if verdict.equivalent else "not shown"
    return "weights hardly moved" if verdict.small else "too few runs"


def farthest(outcomes: Sequence[Outcome]) -> dict[str, ByOptimizer]:
    """By treatment and optimizer, the runs at that rate which moved the weights farthest without any diverging."""
    found: dict[str, dict[str, dict[float, list[Outcome]]]] = {}
    for one in sorted(outcomes, key=lambda one: one.setting.seed):
        by_name = found.setdefault(one.setting.treatment, {})
        by_name.setdefault(one.setting.optimizer, {}).setdefault(one.setting.rate, []).append(one)
    seeds = len({one.setting.seed for one in outcomes})
    return {
        treatment: {name: _farthest(rates, seeds) for name, rates in by_name.items()}
        for treatment, by_name in found.items()
    }


def _farthest(rates: Mapping[float, list[Outcome]], seeds: int) -> list[Outcome]:
    whole = [runs for runs in rates.values() if len(runs) == seeds] or list(rates.values())
    return max(whole, key=comparison.distance)


def judged(found: Mapping[tuple[str, str], Verdict]) -> list[dict[str, Any]]:
    """A row a verdict on (treatment, optimizer compared with AdamW), for a table."""
    rows = trails.judged({"equal distance": list(found.values())})
    return [
        {"treatment": labels.TREATMENTS[treatment], "AdamW less": labels.OPTIMIZERS[name]}
        | {key: value for key, value in row.items() if key not in ("control", "at")}
        for (treatment, name), row in zip(found, rows, strict=True)
    ]


def at_distance(far: Mapping[str, ByOptimizer], share: float) -> Figure:
    """Damage of each optimizer at a share of the distance that all of them reached, a panel a treatment."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(far), figsize=(7.2, 2.6), sharey=True, squeeze=False)
    for axis, (treatment, by_name) in zip(axes.flat, far.items(), strict=True):
        common = matching.common_weight_change([one for runs in by_name.values() for one in runs])
        axis.axvline(0, color="#000000", linewidth=1)
        most = 0.1
        for place, runs in enumerate(by_name.values()):
            values = [matching.at_weight_change(one, share * common).log_perplexity_change for one in runs]
            ends = [matching.at_weight_change(one, common).log_perplexity_change for one in runs]
            most = max(most, *ends)
            mean_and_interval(axis, values, place, COLOURS[place])
        axis.set_yticks(range(len(by_name)), [labels.OPTIMIZERS[name] for name in by_name])
        axis.set_ylim(len(by_name) - 0.5, -0.5)
        axis.set(xlim=(-0.08 * most, 1.1 * most), xlabel=labels.DAMAGE, title=labels.TREATMENTS[treatment])
    return figure
