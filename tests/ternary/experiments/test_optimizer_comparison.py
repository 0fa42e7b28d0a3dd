"""Comparisons: pairs by seed, the control at AdamW's rate, corrected p values, and divergence in the table."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats as reference

from chimera_lib import recorded
from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.ternary.experiments import log, optimizer_comparison, optimizer_log, optimizer_report, trial
from chimera_lib.ternary.experiments.optimizer_comparison import compare, contenders
from chimera_lib.ternary.experiments.trial import BIAS, CONTENDERS, Task, Trial

if TYPE_CHECKING:
    from pathlib import Path

TASK = Task("noisy_quadratic", steps=5)
FACTORS = {"adamw": 1.0, "lion": 1.5, "grams": 0.9, "chimera21": 1.0}


def made(task: Task, name: str, lr: float, seed: int) -> Trial:
    """Losses of a known ratio to AdamW's, with noise by seed; lion's best rate is 0.1, the others' 0.01."""
    rng = np.random.default_rng(seed)
    base = math.exp(rng.normal())  # what all optimizers have in common on a seed
    own = math.exp(0.01 * np.random.default_rng([seed, *name.encode()]).normal())
    best = 0.1 if name == "lion" else 0.01
    return Trial(base * own * FACTORS.get(name, 1.0) * (1 + abs(math.log(lr / best))), 0.1, 8, 4, 1)


def test_differences_are_paired_by_seed_against_adamw_at_tuned_rates() -> None:
    rows = compare(TASK, ["lion", "grams", "chimera21"], seeds=range(12), tuning_seeds=[100, 101], runner=made)
    by_name = {row.optimizer: row for row in rows}
    assert list(by_name) == ["adamw", "lion", "grams", "chimera21"]
    assert (by_name["lion"].learning_rate, by_name["grams"].learning_rate) == (0.1, 0.01)
    assert by_name["lion"].difference == pytest.approx(0.5, abs=0.02)  # though losses of seeds differ by factors of e
    assert by_name["grams"].difference == pytest.approx(-0.1, abs=0.02)
    low, high = by_name["lion"].difference_ci or (0, 0)
    assert 0.4 < low < 0.5 < high < 0.6 and high - low < 0.05
    ratios = [math.log(made(TASK, "lion", 0.1, s).loss / made(TASK, "adamw", 0.01, s).loss) for s in range(12)]
    assert by_name["lion"].p == pytest.approx(reference.ttest_1samp(ratios, 0).pvalue)
    bootstrap = by_name["lion"].bootstrap_ci
    assert bootstrap is not None and bootstrap.low < 0.5 < bootstrap.high
    assert by_name["adamw"].difference is None and by_name["adamw"].p_holm is None


def test_p_values_are_corrected_for_all_rows_of_the_table() -> None:
    rows = compare(TASK, ["lion", "grams", "chimera21"], seeds=range(12), tuning_seeds=[100], runner=made)
    plain = sorted(row.p for row in rows if row.p is not None)
    least = min(row.p_holm for row in rows if row.p_holm is not None)
    assert len(plain) == 3 and least == pytest.approx(3 * plain[0])
    said = {row.optimizer: optimizer_report.verdict(row) for row in rows}
    assert said["lion"] == "worse" and said["grams"] == "better"
    assert optimizer_report.totals(rows)["worse"] == sum(word == "worse" for word in said.values())


def test_the_control_has_adamws_tuned_rate_and_the_bias() -> None:
    asked: list[tuple[str, float, int]] = []

    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        asked.append((name, lr, seed))
        return made(task, name, lr, seed)

    rows = compare(TASK, ["adamw_raised"], seeds=[0, 1], tuning_seeds=[100], runner=runner)
    assert rows[1].learning_rate == pytest.approx(BIAS * 0.01)
    assert [one for one in asked if one[0] == "adamw_raised"] == [("adamw_raised", 0.01, 0), ("adamw_raised", 0.01, 1)]
    assert not {seed for _, _, seed in asked if seed < 100} & {100}


def test_a_given_rate_skips_tuning() -> None:
    rows = compare(TASK, ["lion", "adamw_raised"], seeds=[0, 1], learning_rate=0.03, runner=made)
    assert [row.learning_rate for row in rows] == pytest.approx([0.03, 0.03, 0.03 * BIAS])
    assert all(row.tuned is None and row.edge == "" for row in rows)


def test_the_raised_rate_and_the_published_gate_look_alike_on_noise_and_the_neutral_gate_does_not() -> None:
    names = ["adamw_raised", "chimera21", "chimera21_neutral"]
    task = Task("noisy_quadratic", steps=60)
    rows = {row.optimizer: row for row in compare(task, names, seeds=range(6), learning_rate=0.03)}
    raised, published, neutral = (rows[name].difference or 0.0 for name in names)
    assert 0.01 < raised < 0.05 and 0.01 < published < 0.05
    assert abs(neutral) < published / 2


@pytest.mark.parametrize("who", ["lion", "adamw"])
def test_divergence_stays_in_the_table_without_a_difference(who: str) -> None:
    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        if name == who and seed == 1:
            return Trial(math.inf, math.nan, 8, 0, 1, diverged_at=3)
        return made(task, name, lr, seed)

    rows = {row.optimizer: row for row in compare(TASK, ["lion"], seeds=range(4), learning_rate=0.1, runner=runner)}
    assert rows[who].diverged == 1 and rows[who].loss == math.inf and rows[who].loss_ci is None
    assert rows["lion"].difference is None and rows["lion"].p_holm is None
    found = optimizer_report.metrics(list(rows.values()))
    assert f"noisy_quadratic_{who}_loss" not in found and "noisy_quadratic_lion_difference" not in found
    assert found[f"noisy_quadratic_{who}_diverged"] == {"value": 1, "n": 4}
    assert "1 of 4 diverged" in optimizer_report.as_text(list(rows.values()))


def test_equal_runs_and_zero_losses_have_p_values_and_intervals() -> None:
    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        return Trial(0.0, 1.0, 8, 0, 1)

    row = compare(TASK, ["lion"], seeds=[0, 1, 2], learning_rate=0.1, runner=runner)[1]
    assert (row.difference, row.p_holm, row.difference_ci) == (0.0, 1.0, (0.0, 0.0))


def test_metrics_can_be_recorded_and_have_the_names_of_the_book(tmp_path: Path) -> None:
    rows = compare(TASK, ["lion"], seeds=range(3), tuning_seeds=[100], runner=made)
    found = recorded.write(tmp_path / "r.json", "x", optimizer_report.metrics(rows))["metrics"]
    one = found["noisy_quadratic_lion_difference"]
    assert one["n"] == 3 and one["ci"][0] < one["value"] < one["ci"][1]
    assert found["noisy_quadratic_lion_learning_rate"]["value"] == 0.1
    assert {"noisy_quadratic_lion_p_holm", "noisy_quadratic_adamw_loss", "noisy_quadratic_lion_at_edge"} < set(found)
    assert len(optimizer_report.as_rows(rows)) == 2


def test_trials_are_logged_with_the_gates_diagnostics(tmp_path: Path) -> None:
    task = Task("sparse_relu", steps=5, sparsity=0.5)
    with log.Log(tmp_path / "a.jsonl", "x", schema="optimizer") as lines:
        runner = optimizer_log.Logged(lines, every=2)
        rows = compare(task, ["chimera21_int8"], seeds=[0, 1], learning_rate=0.1, runner=runner)
        optimizer_log.log_rows(lines, rows)
        assert runner(task, "lion", 0.1, 10**6).loss == trial.run(task, "lion", 0.1, 10**6).loss
    records = log.read(tmp_path / "a.jsonl")
    kinds = [(one["record_type"], one["optimizer_name"], one["seed"], one["step"]) for one in records]
    assert kinds[:3] == [("step", "adamw", 0, 2), ("step", "adamw", 0, 4), ("step", "adamw", 0, 5)]
    assert kinds[3] == ("final", "adamw", 0, 5)
    assert [kind for kind, *_ in kinds[-2:]] == ["summary"] * 2 and len(records) == 18  # tuning seeds leave none
    gated = next(one for one in records if one["optimizer_name"] == "chimera21_int8" and one["record_type"] == "final")
    assert gated["psi_memory_ratio_vs_fp32"] == 0.25 and gated["psi_storage_policy"] == "int8"
    assert 0 < gated["zero_gradient_ratio"] <= 1 and gated["kappa_min"] == 0.5 and gated["kappa_mean"] > 0.9
    assert gated["sparsity"] == 0.5 and gated["noise_scale"] is None and gated["step_time_ms_after_warmup"] > 0
    assert json.dumps(records[0]) and records[0]["kappa_mean"] is None and records[0]["lr"] == 0.1


def test_adamw_always_runs_and_unknown_names_are_refused() -> None:
    assert contenders(["lion", "adamw"]) == ["adamw", "lion"] and contenders() == list(CONTENDERS)
    with pytest.raises(UnknownName, match="'adam'"):
        contenders(["adam"])
    with pytest.raises(ChimeraError, match="no seeds to tune"):
        compare(TASK, ["lion"], seeds=[0, 1], runner=made)
    assert optimizer_comparison.with_holm([]) == []
