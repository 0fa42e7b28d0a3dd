"""The published runs again: the numbers that the project says of them."""

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import confounds, published

EXPECTED = {  # signed mean and its 95 % interval
    ("70m", 1e-4): (-2.97, -5.15, -0.79),
    ("160m", 1e-4): (-2.50, -7.84, 2.83),
    ("410m", 1e-4): (-1.95, -6.96, 3.05),
    ("1b", 1e-4): (-7.65, -10.8, -4.5),
    ("1b", 2e-4): (-8.85, -29.9, 12.2),
}


def test_signed_means_and_intervals_of_every_size() -> None:
    rows = {(row["model"], row["learning_rate"]): row for row in published.sizes()}
    assert list(rows) == list(EXPECTED)
    for key, (mean, low, high) in EXPECTED.items():
        row = rows[key]
        assert row["n"] == 10
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((mean, low, high), abs=0.05)
    assert rows["70m", 1e-4]["mean"] == pytest.approx(-2.97, abs=0.005)
    assert rows["1b", 1e-4]["rank_rose"] == 10
    assert rows["1b", 2e-4]["mean_absolute"] == pytest.approx(26.446)
    assert rows["1b", 1e-4]["mean_absolute"] == pytest.approx(-rows["1b", 1e-4]["mean"])


def test_tests_of_the_other_priorities() -> None:
    rows = {row["priority"]: row for row in published.comparisons()}
    assert {number: round(row["p_signed"], 3) for number, row in rows.items()} == {2: 0.273, 3: 0.397, 4: 0.003}
    assert "repetition differs" in rows[2]["confounds"] and "optimizer differs" in rows[2]["confounds"]
    assert "full fine-tuning in fp16; LoRA in 8bit, 4bit" in rows[4]["confounds"]
    assert [row["n"] for row in rows.values()] == [9, 6, 9]
    assert all(0 < row["p_absolute"] < 1 and 0 < row["p_holm"] < 1 for row in rows.values())


def test_size_is_confounded_with_the_learning_rate_in_the_headline_alone() -> None:
    assert any("learning rate differs" in one for one in confounds.warnings(1, published.groups(1)))
    assert not any("learning rate" in one for one in confounds.warnings(1, published.groups(1, rate=1e-4)))


def test_every_run_is_there_and_another_priority_is_refused() -> None:
    assert [len(published.runs(number)) for number in (1, 2, 3, 4)] == [50, 9, 6, 9]
    with pytest.raises(ChimeraError, match="priority 5: expected one of 1, 2, 3, 4"):
        published.runs(5)
