"""What is said of a campaign's rows: rates, medians and their intervals, against numbers known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from chimera_lib.images import campaign
from chimera_lib.images.search.protocol import Outcome


def row(start: int, evaluations: int, linf: int | None = None) -> campaign.Row:
    found = linf is not None
    return campaign.Row(start, found, evaluations, 2 * start, 0.5, 1e-6, linf, 10 * linf if found else None)


def test_summary_of_numbers_known_by_hand():
    rows = [row(0, 100, 1), row(1, 300, 3), row(2, 200), row(3, 700, 8), row(4, 900)]
    out = campaign.summary(rows)
    assert (out["n"], out["found"], out["rate"]) == (5, 3, 0.6)
    low, high = scipy.stats.beta.ppf([0.025, 0.975], [3, 4], [3, 2])  # Clopper and Pearson's ends for 3 of 5
    assert out["rate_ci"] == pytest.approx((low, high))
    assert (out["median_evaluations"], out["median_oracle_calls"], out["median_cpu_seconds"]) == (300, 4, 0.5)
    assert (out["median_linf"], out["median_l0"]) == (3, 30), "of the finds alone"
    assert out["median_cpu_seconds_ci"] == (0.5, 0.5)
    low, high = out["median_evaluations_ci"]
    assert 100 <= low < 300 < high <= 900
    low, high = out["median_linf_ci"]
    assert 1 <= low < 3 < high <= 8


def test_summary_without_finds_has_no_distances():
    out = campaign.summary([row(0, 100), row(1, 300)])
    assert (out["rate"], out["median_linf"], out["median_linf_ci"], out["median_l0"]) == (0, None, None, None)
    assert out["rate_ci"] == pytest.approx((0, 1 - 0.025**0.5))
    one = campaign.summary([row(0, 100, 2)])
    assert (one["median_linf"], one["median_linf_ci"], one["median_evaluations_ci"]) == (2, None, None)


def test_tabulate():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    nudged = images[0].copy()
    nudged[0, :2] = 1
    outcomes = [
        Outcome(candidates=[nudged, images[0]], chimera=nudged, evaluations=10, path=[3.0, 0.5]),
        Outcome(candidates=[images[1]], evaluations=30, path=[0.25, 2.0]),
        Outcome(candidates=[images[2] + 1], evaluations=50, path=[0.75]),
    ]
    table = campaign.tabulate({"lattice": outcomes, "noise": outcomes[:2]}, images)
    assert table[0] == {
        "search": "lattice",
        "starts": 3,
        "chimeras": 1,
        "smallest margin (median)": 0.5,
        "forward evaluations (median)": 30.0,
        "values changed (median)": 6.0,  # of 6, none and all 48
    }
    assert (table[1]["search"], table[1]["starts"], table[1]["values changed (median)"]) == ("noise", 2, 3.0)
