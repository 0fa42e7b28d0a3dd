"""Intervals and corrections: thin wrappers over scipy and statsmodels, so that every page says them the same way.

A rate is never shown without the range it may lie in. `wilson` is for rates that are neither very near 0 nor
very near 1, `exact` (Clopper-Pearson) for those that are, as it never promises too much: 0 of 200 still
leaves room for a rate of 1.8 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Statistic = Literal["median", "mean"]


class Interval(NamedTuple):
    """A confidence interval, in the unit of what was measured; unpacks as `(low, high)`."""

    low: float
    high: float


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Give the Wilson score interval of a proportion.

    Args:
        successes: How many of `n` succeeded, 0 <= successes <= n.
        n: How many were tried, at least 1.
        level: Share of such intervals that hold the true proportion, between 0 and 1.

    Returns:
        Two proportions in [0, 1].

    Raises:
        ChimeraError: The counts or the level make no sense.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), eq. 6.

    >>> low, high = wilson(14, 20)
    >>> round(low, 3), round(high, 3)
    (0.481, 0.855)
    """
    return _proportion(successes, n, level, "wilson")


def exact(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Give the Clopper-Pearson interval of a proportion, which covers at least `level` whatever the true value.

    Arguments, result and errors are those of `wilson`; ``successes`` may be a sum of shares, one a unit.

    Source: Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).

    >>> low, high = exact(0, 200)
    >>> low, round(high, 4)
    (0.0, 0.0183)
    """
    return _proportion(successes, n, level, "beta")


def _proportion(successes: float, n: int, level: float, method: str) -> Interval:
    if n < 1 or not 0 <= successes <= n:
        raise ChimeraError(f"cannot take {successes} of {n}: needs 0 <= successes <= n and n >= 1")
    _check_level(level)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - level, method=method)
    return Interval(max(0.0, float(low)), min(1.0, float(high)))


def bootstrap(
    values: Sequence[float] | np.ndarray,
    *,
    statistic: Statistic = "median",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Give a bootstrap percentile interval of the median or the mean.

    Args:
        values: One number per unit that was drawn independently, shape (N,), N >= 2, all finite.
        statistic: What to give the interval of.
        level: Coverage aimed at, between 0 and 1.
        resamples: Draws with replacement; the ends of the interval are good to about 1 / sqrt(resamples).
        seed: Seed of the draws; same seed, same interval.

    Raises:
        ChimeraError: Fewer than two values, one that is not finite, or an unknown statistic.

    Source: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979).
    """
    import numpy as np
    from scipy import stats

    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size < 2 or not np.isfinite(numbers).all():
        raise ChimeraError(f"bootstrap needs a flat list of 2 or more finite numbers, got shape {numbers.shape}")
    functions = {"median": np.median, "mean": np.mean}
    if statistic not in functions:
        raise ChimeraError(f"unknown statistic {statistic!r}: choose one of {', '.join(functions)}")
    _check_level(level)
    if np.ptp(numbers) == 0:  # every resample is the same number, and scipy would warn of a degenerate interval
        return Interval(float(numbers[0]), float(numbers[0]))
    result = stats.bootstrap(
        (numbers,),
        functions[statistic],
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def student(values: Sequence[float] | np.ndarray, *, level: float = 0.95) -> Interval:
    """Student's t interval for the mean of a few independent values, such as one a seed.

    Args:
        values: at least two finite numbers, shape (n,).
        level: nominal coverage, between 0 and 1.

    >>> low, high = student([1.0, 2.0, 3.0])
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    import numpy as np
    from scipy import stats as reference

    _check_level(level)
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size < 2 or not np.isfinite(data).all():
        raise ValueError(f"values of shape {data.shape}: expected at least two finite numbers in one dimension")
    half = reference.t.ppf((1 + level) / 2, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size)
    return Interval(float(data.mean() - half), float(data.mean() + half))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Correct p-values of several tests for their number by Holm's step-down method.

    Args:
        p_values: Shape (N,), each in [0, 1].

    Returns:
        Adjusted p-values, shape (N,), in the order given: compare each with the one level wanted for all of them.

    Raises:
        ChimeraError: No p-value, or one outside [0, 1].

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian J. of Statistics 6 (1979).

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    import numpy as np

    numbers = np.asarray(p_values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size or not ((numbers >= 0) & (numbers <= 1)).all():
        raise ChimeraError(f"holm needs one or more p-values in [0, 1], got {numbers.tolist()}")
    # Not statsmodels' multipletests, which collects garbage at every call: seconds in a process with many objects.
    order = np.argsort(numbers, kind="stable")
    factors = np.arange(numbers.size, 0, -1)
    adjusted = np.empty_like(numbers)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * numbers[order]), 1.0)
    return adjusted


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ChimeraError(f"level is {level}: expected a number between 0 and 1, such as 0.95")
