"""Intervals against closed forms and scipy's own, corrections against a case done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from chimera_lib import stats
from chimera_lib.errors import ChimeraError


@settings(deadline=None)  # the first example pays for importing statsmodels
@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_proportion_intervals_agree_with_scipy(n: int, share: float) -> None:
    successes = round(share * n)
    result = reference.binomtest(successes, n)
    for ours, method in ((stats.wilson, "wilson"), (stats.exact, "exact")):
        expected = result.proportion_ci(0.95, method=method)
        assert ours(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_exact_interval_of_nothing_found_is_the_closed_form() -> None:
    low, high = stats.exact(0, 200)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 200))


@pytest.mark.parametrize(("successes", "n", "level"), [(3, 2, 0.95), (-1, 5, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_counts_that_make_no_sense_are_refused(successes: int, n: int, level: float) -> None:
    for interval in (stats.wilson, stats.exact):
        with pytest.raises(ChimeraError, match=r"needs 0 <=|between 0 and 1"):
            interval(successes, n, level=level)


def test_bootstrap_of_the_mean_comes_near_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    interval = stats.bootstrap(values, statistic="mean", seed=3)
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert interval == stats.bootstrap(values, statistic="mean", seed=3)
    assert interval != stats.bootstrap(values, statistic="mean", seed=4)


def test_bootstrap_of_the_median_holds_it_and_a_constant_has_no_width() -> None:
    values = [1.0, 2.0, 2.5, 3.0, 100.0, 4.0, 2.2]
    low, high = stats.bootstrap(values)
    assert low <= 2.5 <= high < 100.0
    assert stats.bootstrap([7.0] * 9) == (7.0, 7.0)


@pytest.mark.parametrize("values", [[1.0], [], [1.0, math.nan], [[1.0, 2.0]]])
def test_bootstrap_refuses_what_it_cannot_draw_from(values: list) -> None:
    with pytest.raises(ChimeraError, match="2 or more finite"):
        stats.bootstrap(values)


def test_bootstrap_names_the_statistics_it_knows() -> None:
    with pytest.raises(ChimeraError, match="median, mean"):
        stats.bootstrap([1.0, 2.0], statistic="mode")  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(0.5, 0.999))
def test_student_is_what_scipy_gives_for_one_sample(values: list[float], level: float) -> None:
    low, high = stats.student(values, level=level)
    assert (low + high) / 2 == pytest.approx(np.mean(values), abs=1e-9)
    if np.ptp(values) > 1e-6:  # scipy warns of values that hardly differ
        expected = reference.ttest_1samp(values, 0).confidence_interval(level)
        assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_student_by_hand_and_of_a_constant() -> None:
    assert stats.student([0.8, 0.9]) == pytest.approx((0.85 - 12.7062 * 0.05, 0.85 + 12.7062 * 0.05), abs=1e-5)
    assert stats.student([0.7] * 5) == pytest.approx((0.7, 0.7))


@pytest.mark.parametrize("values", [[1.0], [], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_student_refuses_what_has_no_spread(values: list) -> None:
    with pytest.raises(ValueError, match="at least two finite"):
        stats.student(values)
    with pytest.raises(ChimeraError, match="between 0 and 1"):
        stats.student([1.0, 2.0], level=1.0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_what_its_definition_says(p_values: list[float]) -> None:
    order = np.argsort(p_values, kind="stable")
    expected = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        expected[index] = running
    assert stats.holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("p_values", [[], [1.2], [math.nan]])
def test_holm_refuses_what_is_no_probability(p_values: list[float]) -> None:
    with pytest.raises(ChimeraError, match="p-values in"):
        stats.holm(p_values)
