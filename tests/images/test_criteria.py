"""Criteria: closed forms, an AUROC that is known, and groups that are what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

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


def test_the_interval_covers_a_coin_and_excludes_it_where_groups_differ() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 150))
    low, high = criteria.resampled(one, other, 200, 0)
    assert low < 0.5 < high and high - low < 0.2
    assert criteria.resampled(one + 1, other, 200, 0).low > 0.6


def test_a_comparison_is_over_walks_that_have_both() -> None:
    alone = {"logits": {"chimera": [0.0, 0.0, -9.0]}}
    both = {"logits": {"chimera": [0.0, 0.0, -9.0], "refused": [1.0, 0.0, -9.0]}}
    summary = criteria.summarise([alone, {"logits": {}}, both, both], resamples=20)
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
    summary = criteria.summarise(rows, resamples=20)
    easy = next(row for row in summary if row["control"] == "natural images" and row["criterion"] == "gap")
    assert easy["auroc"] == 1.0
    assert criteria.metrics(summary)["natural_gap_auroc"]["value"] == 1.0
    assert "natural images" in criteria.as_text(summary)
