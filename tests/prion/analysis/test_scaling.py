"""Slopes over sizes against a line that is known, and where there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from chimera_lib import stats
from chimera_lib.prion.analysis import scaling
from chimera_lib.prion.analysis.runs import RunResult

METRIC = "rank_reduction_pct"


def sizes(values: dict[float, list[float]]) -> dict[str, list[RunResult]]:
    return {
        f"{size:g}": [
            RunResult(f"{size:g}", n, "fp32", "eigen_prion", "adamw", parameters=size, metrics={METRIC: value})
            for n, value in enumerate(found, 1)
        ]
        for size, found in values.items()
    }


def line(slope: float, spread: float, seed: int = 0) -> dict[str, list[RunResult]]:
    rng = np.random.default_rng(seed)
    return sizes({
        size: (slope * math.log10(size) + spread * rng.normal(size=8)).tolist() for size in (1e6, 3e6, 1e7, 1e8)
    })  # fmt: skip


def test_a_known_slope_is_found() -> None:
    found = scaling.slope(line(3.0, 0.5), METRIC)
    assert found.interval is not None and found.bootstrap is not None
    assert found.effect == pytest.approx(3.0, abs=0.4)
    for ends in (found.interval, found.bootstrap):
        assert ends.low < found.effect < ends.high and 0.2 < ends.high - ends.low < 1.2
    assert found.answer == "holds" and found.n == (32, 0)
    assert scaling.slope(line(-3.0, 0.5), METRIC).answer == "does not hold"
    assert scaling.slope(line(0.0, 0.5, seed=1), METRIC).answer == "cannot tell"


def test_the_slope_is_that_of_least_squares_by_hand() -> None:
    values = {1e6: [1.0, 2.0], 1e7: [2.0, 4.0], 1e9: [3.0, 9.0]}
    x = np.log10(np.repeat(list(values), 2))
    y = np.concatenate(list(values.values()))
    expected = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert scaling.slope(sizes(values), METRIC).effect == pytest.approx(expected)


def test_the_interval_covers_as_often_as_it_says_with_spreads_that_grow() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(120):
        values = {
            size: (2 * math.log10(size) + k * rng.normal(size=8)).tolist() for k, size in enumerate((1e6, 1e7, 1e8), 1)
        }
        low, high = scaling.slope(sizes(values), METRIC, draws=2).interval or (0, 0)
        held += low <= 2 <= high
    assert held / 120 > 0.9


def test_magnitudes_rise_with_spread_alone_and_claim_nothing() -> None:
    values = {1e6: [-1.0, 1.0, -1.1, 1.1], 1e7: [-4.0, 4.0, -4.4, 4.4], 1e8: [-9.0, 9.0, -9.9, 9.9]}
    signed, magnitudes = (scaling.slope(sizes(values), METRIC, absolute=one) for one in (False, True))
    assert signed.effect == pytest.approx(0) and signed.answer == "cannot tell"
    assert magnitudes.effect > 3 and magnitudes.claim is None and "spread alone" in magnitudes.text


@pytest.mark.parametrize(
    "values",
    [
        {1e6: [1.0, 2.0]},
        {},
        {1e6: [1.0], 1e7: [2.0]},
        {1e6: [1.0, 2.0], 1e7: [3.0]},
        {1e6: [1.0, 1.0], 1e7: [1.0, 1.0]},
    ],
)
def test_too_few_runs_have_no_interval(values: dict) -> None:
    found = scaling.slope(sizes(values), METRIC)
    assert found.interval is found.p is None and found.answer == "cannot tell"
    assert math.isnan(found.effect) == (len(values) < 2)


def test_slopes_are_corrected_over_all_that_stand_together() -> None:
    found = {name: scaling.slope(line(steep, 0.5, seed=2), METRIC) for name, steep in (("a", 0.5), ("b", 0.0))}
    other = {"c": scaling.slope(line(0.3, 0.5, seed=4), METRIC), "d": scaling.slope(sizes({1e6: [1.0]}), METRIC)}
    first, second = scaling.corrected(found, other)
    assert list(first) == ["a", "b"] and list(second) == ["c", "d"] and second["d"].p_holm is None
    raw = [found["a"].p or 0, found["b"].p or 0, other["c"].p or 0]
    assert [first["a"].p_holm, first["b"].p_holm, second["c"].p_holm] == stats.holm(raw).tolist()


def test_a_slope_in_deviations_is_over_the_spread_within_sizes() -> None:
    values = {1e6: [0.0, 1.0, 2.0], 1e7: [10.0, 11.0, 12.0]}  # a slope of 10; a standard deviation of 1 at each size
    few = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))  # 4 degrees of freedom
    assert scaling.slope(sizes(values), METRIC).g == pytest.approx(10 * few)
    assert scaling.slope(sizes({1e6: [1.0, 1.0], 1e7: [2.0, 2.0]}), METRIC).g is None
    assert scaling.slope(sizes({1e6: [1.0], 1e7: [2.0], 1e8: [4.0]}), METRIC).g is None


def test_models_of_unknown_size_and_failed_runs_are_left_out() -> None:
    values = line(3.0, 0.5)
    more = {"mine": [RunResult("mine", 1, "fp32", "eigen_prion", "adamw", metrics={METRIC: 1e6})]}
    more["70m"] = [replace(more["mine"][0], parameters=7e7, failed="x")]
    assert scaling.slope(values | more, METRIC) == scaling.slope(values, METRIC)
