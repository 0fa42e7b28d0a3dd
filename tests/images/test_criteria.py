"""Criteria: closed forms, an AUROC that is known, and groups that are what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import norm

from chimera_lib.images.analysis import criteria
from chimera_lib.images.search.protocol import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.oracle import Oracle


def test_criteria_have_their_closed_forms() -> None:
    z = np.log(np.array([[0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]]))
    np.testing.assert_allclose(criteria.gap(z), [0.2, 0], atol=1e-12)
    np.testing.assert_allclose(criteria.top3_spread(z), [0.3, 0], atol=1e-12)
    np.testing.assert_allclose(
        criteria.entropy(z), [-(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)), np.log(3)]
    )
    assert criteria.entropy(np.array([[1000.0, 0.0, 0.0]]))[0] == 0  # no NaN where a probability underflows


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.5, 1, 40).round(1), rng.normal(0, 1, 30).round(1)
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert criteria.auroc(positive, negative) == pytest.approx(pairs)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Pairs share a part, as two images of one walk do: a coin where it is all they differ by, more where one leads."""
    rng = np.random.default_rng(1)
    for lead, truth in ((0.0, 0.5), (1.0, norm.cdf(1 / np.sqrt(4)))):
        covers = 0
        for _ in range(300):
            shared = rng.normal(size=100)
            one, other = shared + rng.normal(size=100) + lead, shared + rng.normal(size=100)
            low, high = criteria.interval(one, other)
            covers += low <= truth <= high
        assert 0.90 < covers / 300 < 0.985, f"{covers} of 300 intervals cover {truth:.3f}"


def test_the_interval_holds_its_point_where_pairs_hardly_differ() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=130)
    for _ in range(20):
        one, other = shared + 1e-6 * rng.normal(size=130), shared
        low, high = criteria.interval(one, other)
        assert low <= criteria.auroc(one, other) <= high
    low, high = criteria.interval(shared + 100, shared)
    assert high == 1.0 and 0.95 < low < 1  # all in order: still not certain


def test_a_lead_within_every_walk_shows_though_the_walks_differ_more() -> None:
    """One wide range of gaps over the walks, and in each walk the chimera's is the smaller by a hair."""
    rows = [
        {"logits": {"chimera": [gap, 0.0, -9.0], "refused": [gap + 1e-5, 0.0, -9.0]}}
        for gap in np.linspace(0.01, 3, 60)
    ]
    (of_gap, *_) = criteria.summarise(rows)
    assert of_gap["criterion"] == "gap" and of_gap["first"] == 1.0 and of_gap["first_ci"].low > 0.9
    assert of_gap["auroc"] == pytest.approx(0.5 + 0.5 / 60)


def test_a_comparison_is_over_walks_that_have_both() -> None:
    alone = {"logits": {"chimera": [0.0, 0.0, -9.0]}}
    both = {"logits": {"chimera": [0.0, 0.0, -9.0], "refused": [1.0, 0.0, -9.0]}}
    summary = criteria.summarise([alone, {"logits": {}}, both, both])
    assert {row["control"] for row in summary} == {"refused"} and {row["n"] for row in summary} == {2}
    assert summary[0]["auroc"] == 1.0


def test_groups_of_real_walks_are_what_they_say(
    small_model: nn.Module, oracle: Oracle, pictures: np.ndarray, tmp_path: Path
) -> None:
    budget = Budget(evaluations=3000, oracle_calls=200)
    rows = criteria.measure(small_model, pictures, range(3), oracle, budget=budget, output=tmp_path, progress=False)
    assert [row["start"] for row in rows] == [0, 1, 2]
    assert sum("chimera" in row["logits"] for row in rows) >= 2
    for row in rows:
        gaps = {name: criteria.gap(np.array([z]))[0] for name, z in row["logits"].items()}
        if "refused" in gaps:
            assert gaps["refused"] < 1e-5 and gaps["chimera"] < 1e-5 < gaps["natural"]
        if "matched" in gaps:
            ordered = {name: np.sort(row["logits"][name]) for name in ("matched", "chimera")}
            matched, own = (z[-1] - z[-2] for z in ordered.values())
            assert abs(matched - own) <= criteria.MATCH
        if "boundary" in gaps:
            assert gaps["boundary"] < criteria.BAR
    asked = oracle.calls
    assert criteria.measure(small_model, pictures, range(3), oracle, budget=budget, output=tmp_path) == rows
    assert oracle.calls == asked
    summary = criteria.summarise(rows)
    easy = next(row for row in summary if row["control"] == "natural images" and row["criterion"] == "gap")
    assert easy["auroc"] == 1.0
    assert criteria.metrics(summary)["natural_gap_auroc"]["value"] == 1.0
    assert "natural images" in criteria.as_text(summary)
