"""Tests of differences and effect sizes against closed forms written out here, and against simulated coverage."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as reference

from chimera_lib import effects
from chimera_lib.errors import ChimeraError

SAMPLES = st.lists(st.floats(-100, 100).map(lambda value: round(value, 3)), min_size=3, max_size=9).filter(
    lambda values: np.ptp(values) > 0.01
)


def welch_by_hand(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """t, degrees of freedom (Welch and Satterthwaite), standard error."""
    parts = [np.var(one, ddof=1) / len(one) for one in (a, b)]
    error = math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
    return (np.mean(a) - np.mean(b)) / error, df, error


@settings(deadline=None)
@given(SAMPLES, SAMPLES)
def test_welch_t_is_its_closed_form(a: list[float], b: list[float]) -> None:
    t, df, error = welch_by_hand(a, b)
    result = effects.welch_t(a, b)
    assert (result.statistic, result.df) == pytest.approx((t, df), rel=1e-6, abs=1e-9)
    assert result.p == pytest.approx(2 * reference.t.sf(abs(t), df), rel=1e-6, abs=1e-12)
    half = reference.t.ppf(0.975, df) * error
    assert result.interval == pytest.approx((result.difference - half, result.difference + half), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(SAMPLES, SAMPLES)
def test_welch_anova_of_two_groups_is_the_square_of_welch_t(a: list[float], b: list[float]) -> None:
    t, df, _ = welch_by_hand(a, b)
    result = effects.welch_anova([a, b])
    assert (result.statistic, result.df_between, result.df_within) == pytest.approx((t**2, 1, df), rel=1e-6, abs=1e-9)


def test_welch_anova_is_its_closed_form_for_three_groups() -> None:
    groups = [[1.0, 2.0, 3.0, 2.5], [2.0, 4.0, 6.0], [5.0, 5.5, 6.5, 9.0, 4.0]]
    n = np.array([len(one) for one in groups])
    weights = n / np.array([np.var(one, ddof=1) for one in groups])
    means = np.array([np.mean(one) for one in groups])
    grand = (weights * means).sum() / weights.sum()
    spread = ((1 - weights / weights.sum()) ** 2 / (n - 1)).sum()
    k = len(groups)
    f = (weights * (means - grand) ** 2).sum() / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    df = (k**2 - 1) / (3 * spread)
    expected = (f, k - 1, df, reference.f.sf(f, k - 1, df))
    assert effects.welch_anova(groups) == pytest.approx(expected)


@settings(deadline=None)
@given(SAMPLES, SAMPLES, st.floats(0.5, 200))
def test_tost_says_that_the_90_percent_interval_lies_within_the_margin(a: list, b: list, margin: float) -> None:
    t, df, error = welch_by_hand(a, b)
    half, difference = reference.t.ppf(0.95, df) * error, t * error
    inside = -margin < difference - half and difference + half < margin
    assert (effects.tost(a, b, margin=margin) < 0.05) == inside
    expected = max(
        reference.t.sf((difference + margin) / error, df), reference.t.cdf((difference - margin) / error, df)
    )
    assert effects.tost(a, b, margin=margin) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_pairs_are_judged_by_their_differences_alone() -> None:
    a, b = [10.0, 20.0, 30.5, 40.0], [9.0, 19.5, 29.0, 38.0]
    change = np.subtract(a, b)
    error = change.std(ddof=1) / 2
    result = effects.paired_t(a, b)
    assert result.statistic == pytest.approx(change.mean() / error)
    assert result.df == 3
    assert result.p == pytest.approx(2 * reference.t.sf(result.statistic, 3))
    one_sided = reference.t.cdf((change.mean() - 3) / error, 3)
    assert effects.tost(a, b, margin=3, paired=True) == pytest.approx(one_sided)
    assert effects.tost(a, b, margin=3) > 0.3  # unpaired, the spread between units hides it
    low, high = effects.paired_bootstrap(a, b, seed=1)
    assert change.min() <= low < change.mean() < high <= change.max()


def test_hedges_g_by_hand() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0, 8.0]
    pooled = math.sqrt((3 * np.var(a, ddof=1) + 4 * np.var(b, ddof=1)) / 7)
    j = math.gamma(3.5) / (math.sqrt(3.5) * math.gamma(3))
    assert effects.hedges_g(a, b).g == pytest.approx((np.mean(a) - np.mean(b)) / pooled * j)
    j = math.gamma(1.5) / (math.sqrt(1.5) * math.gamma(1))
    change = np.subtract(a, b[:4])
    with pytest.raises(ChimeraError, match="do not vary"):
        effects.hedges_g(a, b[:4], paired=True)
    change = np.subtract(a, [3.0, 4.5, 5.0, 7.0])
    g = effects.hedges_g(a, [3.0, 4.5, 5.0, 7.0], paired=True).g
    assert g == pytest.approx(change.mean() / change.std(ddof=1) * j)


def test_hedges_interval_holds_what_the_noncentral_t_says_by_integration() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]
    g, (low, high) = effects.hedges_g(a, b)
    df, scale = 6, math.sqrt(1 / 4 + 1 / 4)
    j = math.gamma(3) / (math.sqrt(3) * math.gamma(2.5))
    t = g / j / scale

    def below(delta: float) -> float:
        """P(T <= t) = E over s = sqrt(chi2 / df) of P(Z <= t s - delta), without a noncentral t."""
        density = reference.chi(df, scale=1 / math.sqrt(df)).pdf
        return integrate.quad(lambda s: density(s) * reference.norm.cdf(t * s - delta), 0, 6)[0]

    assert below(low / j / scale) == pytest.approx(0.975, abs=1e-6)
    assert below(high / j / scale) == pytest.approx(0.025, abs=1e-6)


def test_hedges_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    shrink = math.gamma(4) / (math.sqrt(4) * math.gamma(3.5))  # the ends are of g, the truth of delta
    held = 0
    for _ in range(400):
        low, high = effects.hedges_g(rng.normal(0.8, 1, 5), rng.normal(0, 1, 5)).interval
        held += low / shrink <= 0.8 <= high / shrink
    assert 0.92 < held / 400 < 0.98


@pytest.mark.parametrize("strange", [[1.0], [], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_what_is_no_sample_is_refused(strange: list) -> None:
    for test in (effects.welch_t, effects.paired_t, effects.hedges_g, effects.paired_bootstrap):
        with pytest.raises(ChimeraError, match="2 or more finite"):
            test(strange, [1.0, 2.0])
    with pytest.raises(ChimeraError, match="2 or more finite"):
        effects.welch_anova([[1.0, 2.0], strange])
    with pytest.raises(ChimeraError, match="2 or more finite"):
        effects.tost([1.0, 2.0], strange, margin=1)


def test_what_does_not_vary_is_said_so_rather_than_divided_by() -> None:
    same = [1.5, 1.5, 1.5]
    for test in (effects.welch_t, effects.paired_t, effects.hedges_g):
        with pytest.raises(ChimeraError, match="do not vary"):
            test(same, [2.5, 2.5, 2.5])
    with pytest.raises(ChimeraError, match="group 2 does not vary"):
        effects.welch_anova([[1.0, 2.0], same])
    with pytest.raises(ChimeraError, match="do not vary"):
        effects.tost(same, same, margin=1)
    assert effects.welch_t(same, [2.0, 2.5, 3.5]).df == pytest.approx(2)  # one of them may be constant


def test_pairs_margins_and_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ChimeraError, match="3 and 2 numbers"):
        effects.paired_t([1.0, 2.0, 3.0], [1.0, 2.0])
    for margin in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ChimeraError, match="above 0"):
            effects.tost([1.0, 2.0], [1.0, 2.5], margin=margin)
    with pytest.raises(ChimeraError, match="two or more"):
        effects.welch_anova([[1.0, 2.0]])
    with pytest.raises(ChimeraError, match="needs three or more"):
        effects.hedges_g([1.0, 2.0], [0.0, 3.0], paired=True)


def test_examples() -> None:
    failed, tried = doctest.testmod(effects)
    assert failed == 0 and tried > 0
