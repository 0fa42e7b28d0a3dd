"""Effect sizes and tests of differences: thin wrappers over scipy and statsmodels, beside the intervals of `stats`.

A difference is said in the unit of the data, in standard deviations (`hedges_g`), and by tests that do not take the
variances to be equal. That two things do not differ is never read off a large p-value but shown by `tost`.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    Values = Sequence[float] | np.ndarray


class Difference(NamedTuple):
    """A difference of means in the unit of the data, its interval, and the t test of its being zero."""

    difference: float
    interval: Interval
    statistic: float
    df: float
    p: float


class Anova(NamedTuple):
    """A test of several means being equal: F, its two degrees of freedom, and p."""

    statistic: float
    df_between: float
    df_within: float
    p: float


class EffectSize(NamedTuple):
    """A standardised difference and its confidence interval, in standard deviations."""

    g: float
    interval: Interval


def welch_t(a: Values, b: Values, *, level: float = 0.95) -> Difference:
    """Compare the means of two independent samples whose variances may differ; the difference is mean(a) - mean(b).

    Args:
        a: at least two finite numbers, shape (N,).
        b: at least two finite numbers, shape (M,).
        level: coverage of the interval, between 0 and 1.

    Raises:
        ChimeraError: too few numbers, one that is not finite, or no variance in either sample.

    Source: Welch, The generalization of "Student's" problem, Biometrika 34 (1947).

    >>> result = welch_t([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0])
    >>> round(result.difference, 2), round(result.df, 2), round(result.p, 3)
    (-1.5, 3.23, 0.334)
    """
    from scipy import stats as reference

    first, second = _sample(a, "welch_t"), _sample(b, "welch_t")
    stats._check_level(level)
    if constant(first) and constant(second):
        raise ChimeraError("welch_t of two samples that do not vary: there is no spread to judge the difference by")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's on values that hardly differ
        result = reference.ttest_ind(first, second, equal_var=False)
        ends = result.confidence_interval(level)
    interval = Interval(float(ends.low), float(ends.high))
    difference = float(first.mean() - second.mean())
    return Difference(difference, interval, float(result.statistic), float(result.df), float(result.pvalue))


def paired_t(a: Values, b: Values, *, level: float = 0.95) -> Difference:
    """Compare two measurements of the same units, such as two treatments of the same seed, by Student's paired t.

    Arguments, result and errors are those of `welch_t`; ``a`` and ``b`` are of one length, in the same order.

    >>> result = paired_t([1.0, 2.0, 3.5], [0.0, 0.5, 1.0])
    >>> round(result.difference, 3), round(result.statistic, 3), round(result.df)
    (1.667, 3.78, 2)
    """
    from scipy import stats as reference

    change = _changes(a, b, "paired_t")
    if constant(change):
        raise ChimeraError("paired_t of differences that do not vary: there is no spread to judge them by")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = reference.ttest_1samp(change, 0.0)
    interval = stats.student(change, level=level)
    return Difference(float(change.mean()), interval, float(result.statistic), float(result.df), float(result.pvalue))


def welch_anova(groups: Sequence[Values]) -> Anova:
    """Test whether several independent samples, whose variances may differ, have one mean.

    Args:
        groups: two or more samples, each of at least two finite numbers that are not all the same.

    Raises:
        ChimeraError: fewer than two groups, too few numbers, or a group that does not vary (its weight would be
            infinite).

    Source: Welch, On the comparison of several mean values: an alternative approach, Biometrika 38 (1951).

    >>> result = welch_anova([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [5.0, 5.5, 6.5]])
    >>> round(result.statistic, 2), round(result.df_within, 2), round(result.p, 3)
    (10.81, 3.66, 0.029)
    """
    samples = [_sample(group, "welch_anova") for group in groups]
    if len(samples) < 2:
        raise ChimeraError(f"welch_anova of {len(samples)} group: expected two or more")
    if still := [number for number, sample in enumerate(samples, 1) if constant(sample)]:
        raise ChimeraError(f"welch_anova: group {still[0]} does not vary, so that its weight would be infinite")
    from statsmodels.stats.oneway import anova_oneway

    result = anova_oneway(samples, use_var="unequal")
    between, within = (float(one) for one in result.df)
    return Anova(float(result.statistic), between, within, float(result.pvalue))


def tost(a: Values, b: Values, *, margin: float, paired: bool = False) -> float:
    """Test that two means differ by less than a margin: two one-sided tests, Welch's or of paired differences.

    Args:
        a: at least two finite numbers.
        b: at least two finite numbers; for ``paired`` in the order of ``a``. Zeros test ``a`` against zero.
        margin: what still counts as no difference, in the unit of the data, above 0; named before looking.
        paired: the two are measurements of the same units.

    Returns:
        The larger of the two p-values: below .05, the difference lies within the margin (its 90 % interval does).

    Raises:
        ChimeraError: too few numbers, a margin that is not above 0, or samples that do not vary.

    Source: Schuirmann, A comparison of the two one-sided tests procedure and the power approach, J. Pharmacokinetics
    and Biopharmaceutics 15 (1987).

    >>> round(tost([0.1, -0.2, 0.3, 0.0], [0.0, 0.2, -0.1, 0.1], margin=0.5), 3)
    0.005
    """
    from statsmodels.stats.weightstats import ttost_ind, ttost_paired

    first, second = _sample(a, "tost"), _sample(b, "tost")
    if not (math.isfinite(margin) and margin > 0):
        raise ChimeraError(f"tost with a margin of {margin}: expected a number above 0, in the unit of the data")
    if all(constant(one) for one in ([_changes(a, b, "tost")] if paired else [first, second])):
        raise ChimeraError("tost of samples that do not vary: there is no spread to judge the difference by")
    if paired:
        return float(ttost_paired(first, second, -margin, margin)[0])
    return float(ttost_ind(first, second, -margin, margin, usevar="unequal")[0])


def hedges_g(a: Values, b: Values, *, paired: bool = False, level: float = 0.95) -> EffectSize:
    """Give the difference of means in standard deviations, corrected for few samples, with an exact interval.

    Args:
        a: at least two finite numbers.
        b: at least two finite numbers; for ``paired`` in the order of ``a``.
        paired: divide by the standard deviation of the differences (g_z) rather than by the pooled one.
        level: coverage of the interval, which inverts the noncentral t distribution.

    Raises:
        ChimeraError: too few numbers (fewer than three pairs), or no spread to divide by.

    Source: Hedges, Distribution theory for Glass's estimator of effect size and related estimators, J. Educational
    Statistics 6 (1981), eq. 6e; Steiger and Fouladi, Noncentrality interval estimation (1997).

    >>> g, interval = hedges_g([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
    >>> round(g, 2), round(interval.low, 2), round(interval.high, 2)
    (-1.35, -2.72, 0.11)
    """
    from scipy.special import gammaln

    stats._check_level(level)
    if paired:
        change = _changes(a, b, "hedges_g")
        df, scale, difference = change.size - 1, 1 / math.sqrt(change.size), float(change.mean())
        still, deviation = constant(change), float(change.std(ddof=1))
    else:
        first, second = _sample(a, "hedges_g"), _sample(b, "hedges_g")
        df, scale = first.size + second.size - 2, math.sqrt(1 / first.size + 1 / second.size)
        difference = float(first.mean() - second.mean())
        squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
        still, deviation = constant(first) and constant(second), math.sqrt(squares / df)
    if still:
        raise ChimeraError("hedges_g of values that do not vary: there is no standard deviation to divide by")
    if df < 2:
        raise ChimeraError("hedges_g of two pairs: its correction for few samples needs three or more")
    # J of Hedges, which takes out the bias of few samples: about 1 - 3 / (4 df - 1)
    shrink = math.sqrt(2 / df) * math.exp(gammaln(df / 2) - gammaln((df - 1) / 2))
    t = difference / deviation / scale
    ends = [_noncentrality(t, df, share) * scale * shrink for share in ((1 + level) / 2, (1 - level) / 2)]
    return EffectSize(float(difference / deviation * shrink), Interval(*ends))


def paired_bootstrap(a: Values, b: Values, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Give the bootstrap percentile interval of the mean difference of pairs, drawing whole pairs.

    Arguments as of `paired_t` and of `stats.bootstrap`, and their errors.

    >>> low, high = paired_bootstrap([1.0, 2.0, 3.5, 2.0], [0.0, 0.5, 1.0, 1.5])
    >>> 0.4 < low < 1.375 < high < 2.6
    True
    """
    change = _changes(a, b, "paired_bootstrap")
    return stats.bootstrap(change, statistic="mean", level=level, resamples=resamples, seed=seed)


def constant(values: np.ndarray) -> bool:
    """Whether numbers are all the same, but for what rounding does to the last digits."""
    return bool(values.max() - values.min() <= 1e-12 * abs(values).max())


def _noncentrality(t: float, df: int, share: float) -> float:
    """The noncentrality at which a noncentral t of ``df`` degrees of freedom lies below ``t`` with this probability."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr

    width = 4.0 + abs(t)
    while nctdtr(df, t - width, t) < share or nctdtr(df, t + width, t) > share:
        width *= 2
    return float(brentq(lambda delta: nctdtr(df, delta, t) - share, t - width, t + width, xtol=1e-9))


def _sample(values: Values, name: str) -> np.ndarray:
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size < 2 or not np.isfinite(numbers).all():
        raise ChimeraError(f"{name} needs flat lists of 2 or more finite numbers, got shape {numbers.shape}")
    return numbers


def _changes(a: Values, b: Values, name: str) -> np.ndarray:
    first, second = _sample(a, name), _sample(b, name)
    if first.size != second.size:
        raise ChimeraError(f"{name} of pairs got {first.size} and {second.size} numbers: expected as many of each")
    return first - second
