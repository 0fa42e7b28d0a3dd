"""How a change grows with the size of the model: the slope per decade of parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from chimera_lib.prion.analysis.runs import counted
from chimera_lib.prion.analysis.verdicts import Verdict, holm_all
from chimera_lib.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimera_lib.prion.analysis.runs import RunResult
    from chimera_lib.prion.analysis.verdicts import Claim

Key = TypeVar("Key")


def slope(
    groups: Mapping[str, Sequence[RunResult]],
    metric: str,
    *,
    absolute: bool = False,
    unit: str = "",
    seed: int = 0,
    draws: int = 2000,
) -> Verdict:
    """Regress a metric of every run on the decimal logarithm of its model's parameters.

    The interval is of least squares with errors whose spread may differ from size to size (HC3); the bootstrap draws
    runs within each size. Either speaks about further runs of these models, not about further models.

    Args:
        groups: the runs of each size; those without a known number of parameters are left out.
        metric: as `RunResult.metric` knows it.
        absolute: of magnitudes, as published.
        unit: of the metric.
        seed, draws: of the bootstrap.

    Returns:
        A verdict on the claim that the slope is positive; without a test where there are fewer than two sizes or too
        few runs. Its ``g`` is the slope in standard deviations: over the standard deviation of runs of one size,
        pooled over the sizes, with the correction for few runs of Hedges' g; it has no interval. Its ``p`` is of this
        slope alone: see `corrected`.
    """
    points = [
        (math.log10(run.parameters), abs(value) if absolute else value)
        for members in groups.values()
        for run in counted(members)
        if run.parameters and (value := run.metric(metric)) is not None
    ]
    x, y = np.array([one for one, _ in points]), np.array([two for _, two in points])
    sizes, counts = np.unique(x, return_counts=True)
    bar = "|" * absolute
    name = f"{bar}{metric}{bar} per decade of parameters"
    note = f"{len(sizes)} sizes" + "; magnitudes, as published, grow with the spread alone" * absolute
    claim: Claim | None = None if absolute else "greater"
    n = (len(points), 0)
    nothing = Verdict(name, math.nan, None, None, None, None, None, None, None, None, None, n, False, claim, unit, note)
    if len(sizes) < 2:
        return nothing
    effect = float(np.polyfit(x, y, 1)[0])
    interval = p = None
    # One run alone at one of two sizes lies on the line whatever it is, and has no residual to judge by.
    if len(points) > 2 and (len(sizes) > 2 or counts.min() > 1) and np.ptp(y) > 0:
        import statsmodels.api as sm

        fit = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC3", use_t=True)
        low, high = fit.conf_int()[1]
        if math.isfinite(low) and high > low:
            interval, p = Interval(float(low), float(high)), float(fit.pvalues[1])
    bootstrap = _bootstrap(x, y, seed, draws) if counts.min() > 1 else None
    return Verdict(
        name, effect, interval, bootstrap, _in_deviations(effect, x, y), None, p, None, None, None, None, n, False,
        claim, unit, note,
    )  # fmt: skip


def corrected(*found: Mapping[Key, Verdict]) -> tuple[dict[Key, Verdict], ...]:
    """The same slopes with p-values corrected by Holm's method over all that are given together.

    Args:
        found: one mapping or several; those of all of them are one family.

    Returns:
        A dict for each mapping, in the order given: ``p_holm`` is set, and the answers go by it.
    """
    told = iter(holm_all([one for mapping in found for one in mapping.values()]))
    return tuple({key: next(told) for key in mapping} for mapping in found)


def _in_deviations(effect: float, x: np.ndarray, y: np.ndarray) -> float | None:
    """A slope over the pooled standard deviation within sizes, corrected as Hedges' g; None where they do not vary."""
    rest = sum(float(((y[x == one] - y[x == one].mean()) ** 2).sum()) for one in np.unique(x))
    freedom = x.size - np.unique(x).size
    if freedom < 2 or rest <= 0:
        return None
    few = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return effect / math.sqrt(rest / freedom) * few


def _bootstrap(x: np.ndarray, y: np.ndarray, seed: int, draws: int) -> Interval:
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, x.size))
    for size in np.unique(x):
        members = np.flatnonzero(x == size)
        drawn[:, members] = y[rng.choice(members, (draws, members.size))]
    centred = x - x.mean()
    slopes = drawn @ centred / (centred @ centred)
    low, high = np.quantile(slopes, (0.025, 0.975))
    return Interval(float(low), float(high))
