"""Prevalence: what is counted, what is extrapolated, and that a killed measurement goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.images.analysis import prevalence
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.images.network import Network


def test_a_row_holds_signed_gaps_between_the_first_backends_two_classes() -> None:
    logits = np.array([[[0.0, 3.0, 1.0]], [[0.0, 0.5, 1.0]]], np.float32)  # the second backend prefers class 2
    (row,) = prevalence.describe([7], logits)
    assert row == {"image": 7, "conflict": True, "predictions": [1, 2], "gaps": [2.0, -0.5]}


def test_the_expected_rate_is_that_of_simulated_images() -> None:
    """Gaps uniform about the boundary and a backend that shifts each by Gaussian noise: the rate is known."""
    rng = np.random.default_rng(0)
    gap = rng.uniform(-1, 1, 400_000)
    shift = rng.normal(0, 1e-3, gap.size)
    rows = [
        {"conflict": bool(g * (g + s) < 0), "gaps": [g, g + s]}
        for g, s in zip(gap.tolist(), shift.tolist(), strict=True)
    ]
    found = prevalence.summarise(rows)
    assert found.conflicts > 100
    low, high = found.rate_ci
    assert found.expected is not None and low < found.expected.rate < high
    known = np.sqrt(2 / np.pi) * 1e-3 / 2  # f(0) = 1, E|d| / 2
    assert found.expected.rate == pytest.approx(known, rel=0.1)
    assert found.expected.interval.low < known < found.expected.interval.high


def test_no_conflict_still_leaves_an_exact_bound() -> None:
    rows = [{"conflict": False, "gaps": [1.0, 1.0 + 1e-6]}] * 200
    found = prevalence.summarise(rows)
    assert found.rate_ci == stats.exact(0, 200)
    assert found.expected is not None and 0 < found.expected.rate < 1e-6
    assert "0 conflicts on 200 images" in prevalence.as_text(found)


def test_nothing_is_expected_of_few_images_or_of_backends_that_agree_to_the_bit() -> None:
    few = prevalence.summarise([{"conflict": False, "gaps": [1.0, 1.0 + 1e-6]}] * 10)
    same = prevalence.summarise([{"conflict": False, "gaps": [gap, gap]} for gap in np.linspace(1, 2, 50).tolist()])
    assert few.expected is None and same.expected is not None and same.expected.rate == 0
    for found in (few, same):
        assert "images_for_one" not in prevalence.metrics(found, 2)
    assert "expected" not in prevalence.as_text(few)


def test_a_killed_measurement_goes_on_and_keeps_what_it_had(
    oracle: Oracle, pictures: np.ndarray, tmp_path: Path
) -> None:
    whole = prevalence.measure(pictures, oracle, tmp_path / "a", chunk=5, progress=False)
    assert [row["image"] for row in whole] == list(range(12))
    lines = (tmp_path / "a/rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "a/rows.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:9])
    asked = oracle.calls
    again = prevalence.measure(pictures, oracle, tmp_path / "a", chunk=5, progress=False)
    assert again == whole and oracle.calls - asked == 8


def test_rows_of_other_backends_are_refused(small_network: Network, pictures: np.ndarray, tmp_path: Path) -> None:
    with Oracle(small_network, ["openblas", "blis"]) as pair:
        prevalence.measure(pictures[:2], pair, tmp_path, progress=False)
    with Oracle(small_network, ["openblas", "mkl"]) as other, pytest.raises(ChimeraError, match="other settings"):
        prevalence.measure(pictures[:2], other, tmp_path, progress=False)
    with Oracle(small_network, ["openblas", "blis"]) as pair, pytest.raises(ChimeraError, match="other settings"):
        prevalence.measure(pictures[2:4], pair, tmp_path, progress=False)
    (tmp_path / "settings.json").write_bytes(b"{")
    with Oracle(small_network, ["openblas", "blis"]) as pair, pytest.raises(ChimeraError, match="damaged"):
        prevalence.measure(pictures[:2], pair, tmp_path, progress=False)
    assert len(json.loads("[" + ",".join((tmp_path / "rows.jsonl").read_text().split("\n")[:2]) + "]")) == 2
