"""The source's filters: what they leave out, when they cannot, and the largest z-score that there can be."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import filters, judged, sensitivity
from chimera_lib.prion.analysis.filters import Filter
from chimera_lib.prion.analysis.runs import RunResult

OUTLIER = [1.0, 1.1, 0.9, 1.05, 0.95, 9.0]


def test_iqr_leaves_out_what_lies_beyond_its_reach() -> None:
    assert filters.kept(OUTLIER, Filter("iqr")).tolist() == [True] * 5 + [False]
    assert filters.kept(OUTLIER, Filter("iqr", multiplier=100)).all()


def test_iqr_quartiles_by_hand() -> None:
    # quartiles of 0, 1, 2, 3, 4 are 1 and 3: with the multiplier 1.5, 6 is the last value that is kept
    assert filters.kept([0, 1, 2, 3, 4], Filter("iqr")).all()
    assert filters.kept([0, 1, 2, 3, 6], Filter("iqr")).all()
    assert filters.kept([0, 1, 2, 3, 6.01], Filter("iqr")).tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("values", [[1.0, 2.0, 99.0], [], [1.0], [5.0] * 5 + [90.0]])
def test_iqr_needs_four_values_and_a_spread(values: list[float]) -> None:
    assert filters.kept(values, Filter("iqr")).all()


def test_zscore_by_hand() -> None:
    z = np.abs(np.array(OUTLIER) - np.mean(OUTLIER)) / np.std(OUTLIER, ddof=1)
    assert (
        filters.kept(OUTLIER, Filter("zscore", threshold=2.0)).tolist() == (z <= 2.0).tolist() == [True] * 5 + [False]
    )
    assert filters.kept(OUTLIER, Filter("zscore")).all()
    assert filters.kept([1.0, 99.0], Filter("zscore", threshold=0.1)).all()
    assert filters.kept([3.0, 3.0, 3.0], Filter("zscore", threshold=0.0)).all()


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30).filter(lambda v: np.ptp(v) > 1e-3))
def test_no_z_score_passes_its_bound(values: list[float]) -> None:
    z = np.abs(np.array(values) - np.mean(values)) / np.std(values, ddof=1)
    assert z.max() <= filters.largest_z(len(values)) * (1 + 1e-9)


def test_the_bound_is_reached_by_a_single_outlier() -> None:
    values = np.array([0.0] * 9 + [1.0])
    z = (values - values.mean()) / values.std(ddof=1)
    assert z.max() == pytest.approx(filters.largest_z(10))
    assert filters.largest_z(10) == pytest.approx(2.846, abs=1e-3)
    assert filters.kept(values, Filter("zscore")).all()
    assert filters.can_fire_from(3.0) == 11 and not filters.kept([0.0] * 10 + [1.0], Filter("zscore")).all()


def test_notes_are_computed_from_the_sizes() -> None:
    note = filters.note(Filter("zscore"), [10, 10, 8])
    assert "2.846" in note and "can never leave one out" in note and "from 11 values on" in note
    assert "never" not in filters.note(Filter("zscore"), [10, 11])
    assert "never" not in filters.note(Filter("zscore", threshold=2.0), [10])
    assert filters.note(Filter("iqr"), [3, 10]).startswith("1 of 2 groups")


def test_filters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ChimeraError, match="choose one of iqr, zscore"):
        filters.kept(OUTLIER, Filter("mad"))  # type: ignore[arg-type]
    for chosen in (Filter("iqr", multiplier=-1), Filter("zscore", threshold=float("nan"))):
        with pytest.raises(ChimeraError, match="at least 0"):
            filters.kept(OUTLIER, chosen)


def runs(changes: list[float], optimizer: str) -> list[RunResult]:
    """Runs with these changes of rank; the first has no perplexity after the attack."""
    found = []
    for run, change in enumerate(changes, 1):
        metrics = {"rank_reduction_pct": change, "baseline_perplexity": 10.0}
        metrics |= {} if run == 1 else {"post_attack_perplexity": 10.0 * run}
        found.append(RunResult("410m", run, "fp16", "eigen_prion", optimizer, metrics=metrics))
    return found


def test_sensitivity_says_what_was_left_out_and_which_answers_turn() -> None:
    groups = {"adamw": runs([1.0, 1.2, 0.9, 1.1, 1.05, -9.0], "adamw"), "sgd": runs([0.1, 0.0, -0.1], "sgd")}
    margins = judged.Margins(rank=0.5)
    before = {"rank_reduction_pct": judged.judge(3, groups, "rank_reduction_pct", margins)}
    found = sensitivity.analyse(3, groups, Filter("iqr"), margins, before, absolute=False)
    assert found["num_filtered"] == 1
    assert found["groups"]["adamw"] == {"num_runs": 5, "removed": [{"run": 6, "value": -9.0}], "not_judged": 0}
    assert found["groups"]["sgd"]["removed"] == []
    assert found["signed"]["adamw"]["mean"] == pytest.approx(1.05) and found["summary"][0]["num_runs"] == 5
    turned = {one["name"]: (one["all_runs"], one["filtered"]) for one in found["changed_answers"]}
    assert turned["adamw less sgd, rank reduction"] == ("cannot tell", "holds")


def test_a_filter_by_perplexity_keeps_runs_without_one() -> None:
    groups = {"adamw": runs([1.0, 1.2, 0.9], "adamw"), "sgd": runs([0.1, 0.0, -0.1], "sgd")}
    chosen = Filter("zscore", "perplexity_post", threshold=0.1)
    found = sensitivity.analyse(3, groups, chosen, judged.Margins(), {}, absolute=False)
    assert found["groups"]["adamw"] == {"num_runs": 3, "removed": [], "not_judged": 1}  # two values are too few


def test_magnitudes_are_filtered_where_they_are_averaged() -> None:
    changes = [-5.0, 5.0, 5.1, -5.1, 4.9, 0.0]
    groups = {"adamw": runs(changes, "adamw"), "sgd": runs(changes, "sgd")}
    removed = {
        absolute: sensitivity.analyse(3, groups, Filter("iqr"), judged.Margins(), {}, absolute=absolute)["num_filtered"]
        for absolute in (False, True)
    }
    assert removed == {False: 0, True: 2}


def test_examples() -> None:
    failed, tried = doctest.testmod(filters)
    assert failed == 0 and tried > 0
