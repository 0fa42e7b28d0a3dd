"""Effects of a factorial design: planted ones are found, and the sums of squares are those of statsmodels."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import effects

if TYPE_CHECKING:
    from pathlib import Path

OPTIMIZERS, MODES, ACTIVATIONS = ("chimera21", "adamw", "lion"), ("fp32_baseline", "chimera"), ("none", "int8")


def rows(noise: float = 0.0, seeds: int = 3, draw: int = 0) -> list[dict[str, Any]]:
    """Accuracy .5 + seed/100, less .04 for chimera, less .02 for int8 where chimera, plus .01 for chimera21."""
    rng = np.random.default_rng(draw)
    found = []
    for seed, optimizer, mode, activation in itertools.product(range(seeds), OPTIMIZERS, MODES, ACTIVATIONS):
        value = 0.5 + seed / 100 + 0.01 * (optimizer == "chimera21") - 0.04 * (mode == "chimera")
        value -= 0.02 * (mode == "chimera" and activation == "int8")
        names = {"optimizer": optimizer, "mode": mode, "activation": activation, "seed": seed}
        value += noise * rng.standard_normal()
        found.append({**names, "accuracy": value, "diverged": False, "learning_rate": 0.1, "n": 100, "loss": 1.0})
        found[-1]["data"] = "cifar10"
    return found


def test_planted_effects_are_found_whatever_the_seed_adds() -> None:
    found = {row["level"]: row for row in effects.main_effects(rows())}
    assert found["chimera21"]["reference"] == "adamw"
    assert found["chimera21"]["effect"] == pytest.approx(0.01)
    assert found["lion"]["effect"] == pytest.approx(0)
    assert found["chimera"]["effect"] == pytest.approx(-0.05)  # -.04 and, on the average, half of -.02
    assert found["int8"]["effect"] == pytest.approx(-0.01)
    simple = effects.within(rows(), "activation", "int8", "none", mode="chimera")
    assert simple["effect"] == pytest.approx(-0.02) and simple["seeds"] == 3


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for draw in range(200):
        low, high = next(r["ci"] for r in effects.main_effects(rows(0.02, draw=draw)) if r["level"] == "chimera21")
        held += low <= 0.01 <= high
    assert 180 <= held <= 199  # 95 % of 200, within three standard deviations


def test_one_seed_has_no_interval() -> None:
    assert all(row["ci"] is None and row["p_holm"] is None for row in effects.main_effects(rows(0.02, seeds=1)))
    assert "points" in effects.as_text(rows(0.02, seeds=1))


def test_p_values_are_corrected_over_the_table() -> None:
    found = effects.main_effects(rows(0.005, draw=3))
    from scipy import stats as reference

    raw = [row["p"] for row in found]
    wanted = reference.false_discovery_control(raw, method="by")  # never smaller than the raw ones; Holm neither
    assert all(row["p_holm"] >= row["p"] for row in found) and len(wanted) == 4
    smallest = min(found, key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 4 * smallest["p"]))


def test_variance_shares_are_those_of_an_analysis_of_variance() -> None:
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    given = rows(0.01)
    fitted = ols("accuracy ~ C(seed) + C(optimizer) * C(mode) * C(activation)", pandas.DataFrame(given)).fit()
    table = anova_lm(fitted, typ=2)["sum_sq"]
    total = table.sum()
    ours = {row["source"]: row for row in effects.variance_shares(given)}
    assert sum(row["share"] for row in ours.values()) == pytest.approx(1)
    for name, source in (
        ("C(optimizer)", "optimizer"),
        ("C(mode):C(activation)", "mode by activation"),
        ("C(optimizer):C(mode):C(activation)", "optimizer by mode by activation"),
        ("C(seed)", "seed"),
        ("Residual", "residual"),
    ):
        assert ours[source]["share"] == pytest.approx(table[name] / total, abs=1e-9), name
    assert ours["residual"]["df"] == fitted.df_resid


def test_a_run_that_diverged_counts_as_guessing(tmp_path: Path) -> None:
    given = rows()
    given[0] |= {"diverged": True, "accuracy": None}
    assert effects.accuracy(given[0]) == 0.1
    effects.write_record(tmp_path / "r.json", given)
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert metrics["diverged_runs"]["value"] == 1 and metrics["runs"]["value"] == 36
    assert metrics["adamw_chimera_int8_accuracy"]["n"] == 3
    assert metrics["chimera21_effect"]["ci"][0] < metrics["chimera21_effect"]["value"]
    assert effects.tuned_rates(metrics, ["adamw", "lion"], ["chimera"]) == {
        ("adamw", "chimera"): 0.1,
        ("lion", "chimera"): 0.1,
    }
    with pytest.raises(ChimeraError, match="no learning rate of grams with chimera"):
        effects.tuned_rates(metrics, ["grams"], ["chimera"])


def test_matched_effects_leave_out_what_was_tuned_to_another_rate() -> None:
    given = rows()
    for row in given:
        if row["optimizer"] == "chimera21" and row["mode"] == "chimera":
            row |= {"learning_rate": 0.3, "accuracy": row["accuracy"] - 0.2}
    found = {row["level"]: row for row in effects.matched_effects(given)}
    assert found["chimera21"]["modes"] == ["fp32_baseline"] and found["chimera21"]["effect"] == pytest.approx(0.01)
    assert found["lion"]["modes"] == ["fp32_baseline", "chimera"]
    for row in given:
        if row["optimizer"] == "lion":
            row["learning_rate"] = 0.2
    assert "lion" not in {row["level"] for row in effects.matched_effects(given)}
