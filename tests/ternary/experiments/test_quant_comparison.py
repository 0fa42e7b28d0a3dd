"""The comparison of quantizers: what cells share, what is logged, how a rate is chosen, what is compared with what."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib import stats
from chimera_lib.errors import UnknownName
from chimera_lib.ternary.controllers import zero_ratio_for
from chimera_lib.ternary.experiments import digits, log, quant_report
from chimera_lib.ternary.experiments.quant_comparison import (
    TUNING_SEEDS,
    Cell,
    Run,
    Setting,
    cells,
    chosen_rate,
    compare,
    network,
    train,
    weight_statistics,
)
from chimera_lib.ternary.resnet import MODES

if TYPE_CHECKING:
    from pathlib import Path

PARTS = digits.load()
QUICK = Setting(steps=4, warmup=2, hidden=8)
CHIMERA = Cell("chimera", "gamma", "int8")


def test_cells_are_the_combinations_that_mean_something() -> None:
    names = [cell.name for cell in cells(MODES, activations=("int8", "as_published"))]
    assert len(names) == len(set(names)) == 1 + 2 * (2 + 2) + 2 * (1 + 1)
    assert cells(["chimera"], ["gamma"]) == [CHIMERA] and CHIMERA.name == "chimera"
    assert Cell("chimera", "optimal", "as_published").name == "chimera_optimal_as_published"
    assert cells(["lsq", "fp32_baseline"]) == [Cell("lsq", None, "int8"), Cell("fp32_baseline")]
    for arguments in ((["bitnet"],), (["chimera"], ["mean"]), (["chimera"], ["gamma"], ["int4"])):
        with pytest.raises(UnknownName):
            cells(*arguments)


def test_all_cells_start_from_the_same_weights_and_meet_the_same_batches() -> None:
    starts = [network(cell, QUICK, 3).state_dict() for cell in cells(MODES)]
    for state in starts[1:]:
        assert all(torch.equal(value, state[name]) for name, value in starts[0].items())
    other = network(CHIMERA, QUICK, 4).state_dict()
    assert not torch.equal(other["0.weight"], starts[0]["0.weight"])
    # At a rate of zero nothing moves, so that equal losses are equal batches.
    unmoved = [train(Cell("fp32_baseline"), 3, QUICK, 0.0, PARTS)[1] for _ in range(2)]
    assert unmoved[0] == unmoved[1] != train(Cell("fp32_baseline"), 4, QUICK, 0.0, PARTS)[1]


def test_training_learns_and_repeats_itself() -> None:
    setting = replace(QUICK, steps=150, hidden=32, learning_rates=(0.01,))
    first, again = (compare([CHIMERA], [0], setting, PARTS)[0] for _ in range(2))
    assert first == again
    assert first.accuracy > 0.8, "chance is .1"
    assert first.learning == first.parameters == 4


def test_as_published_only_the_last_layer_learns() -> None:
    run = compare([Cell("chimera", "gamma", "as_published")], [0], QUICK, PARTS)[0]
    assert (run.learning, run.parameters) == (2, 4)


def test_the_log_holds_each_steps_own_statistics(tmp_path: Path) -> None:
    with log.Log(tmp_path / "log.jsonl", "compare-quant-modes") as written:
        runs = compare([CHIMERA, Cell("fp32_baseline")], [0, 1], QUICK, PARTS, log=written)
    records = log.read(tmp_path / "log.jsonl")
    assert len(records) == 2 * 2 * (QUICK.steps + 2)
    own = [r for r in records if r["mode"] == "chimera" and r["seed"] == 0]
    assert [r["record_type"] for r in own] == ["step"] * 4 + ["eval", "final"]
    assert [r["step"] for r in own] == [1, 2, 3, 4, 4, 4]
    assert [r["alpha_used"] for r in own[:4]] == [0, 0.7, 0.7, 0.7], "the first warm-up forward uses alpha_min"
    assert own[0]["zero_ratio"] == 0 and 0.2 < own[3]["zero_ratio"] < 0.6
    assert own[4]["loss"] == runs[0].loss and own[5]["loss"] == runs[0].train_loss == own[3]["loss"]
    for r in own:
        assert r["zero_ratio"] + r["plus_ratio"] + r["minus_ratio"] == pytest.approx(1)
        assert (r["stat_mode"], r["rho_s"], r["optimizer_name"], r["lr"]) == ("gamma", 0.95, "adam", 1e-3)
        assert r["gamma"] > 0 and r["alpha"] == 0.7
    plain = [r for r in records if r["mode"] == "fp32_baseline"]
    assert all(r["zero_ratio"] is None and r["gamma"] is None and r["rho_s"] is None for r in plain)
    assert all(r["loss"] > 0 for r in plain)


def test_target_bits_aim_chimera_and_nothing_else() -> None:
    setting = replace(QUICK, steps=6, target_bits=1.32)
    aimed, strict = compare([CHIMERA, Cell("strict_bitnet", "gamma", "int8")], [0], setting, PARTS)
    assert aimed.statistics["zero_ratio"] == pytest.approx(zero_ratio_for(1.32), abs=0.02)
    assert strict.statistics["zero_ratio"] < 0.45


def test_the_rate_is_chosen_on_validation_pictures_and_tuning_seeds_only() -> None:
    setting = replace(QUICK, steps=40, hidden=32, learning_rates=(1e-6, 0.01))
    blinded = {**PARTS, "test": digits.Part(PARTS["test"].x * math.nan, PARTS["test"].y)}
    assert chosen_rate(CHIMERA, setting, blinded) == 0.01
    assert chosen_rate(CHIMERA, replace(setting, learning_rates=(5.0,)), {}) == 5.0, "one rate: nothing to choose"
    diverging = replace(setting, learning_rates=(math.inf, 0.01))
    assert chosen_rate(Cell("fp32_baseline"), diverging, PARTS) == 0.01
    assert min(TUNING_SEEDS) >= 1000, "reported seeds are 0, 1, ..."


def test_weight_statistics_of_a_network_without_ternary_layers() -> None:
    assert set(weight_statistics(network(Cell("fp32_baseline"), QUICK, 0)).values()) == {None}
    ttq = weight_statistics(network(Cell("ttq", None, "int8"), QUICK, 0))
    assert ttq["gamma"] is None and ttq["alpha_used"] is None and ttq["effective_bits"] > 0


def run(cell: Cell, seed: int, accuracy: float) -> Run:
    numbers = dict.fromkeys(
        ("zero_ratio", "plus_ratio", "minus_ratio", "effective_bits", "gamma", "alpha", "alpha_used")
    )
    if cell.mode != "fp32_baseline":
        numbers["zero_ratio"] = 0.5
    return Run(cell, seed, 0.01, accuracy, 0.2, 0.1, 4, 4, numbers)


def test_differences_are_paired_by_seed() -> None:
    strict = Cell("strict_bitnet", "gamma", "int8")
    runs = [run(strict, 0, 0.90), run(strict, 1, 0.80), run(CHIMERA, 1, 0.83), run(CHIMERA, 0, 0.91)]
    (one,) = quant_report.differences(runs)
    assert (one.first, one.second, one.n) == ("chimera", "strict_bitnet", 2)
    assert one.value == pytest.approx(0.02)
    assert one.ci == pytest.approx(stats.student([0.01, 0.03]))
    alone = quant_report.differences([r for r in runs if r.seed == 0])
    assert alone[0].ci is None and alone[0].value == pytest.approx(0.01)
    text = quant_report.as_text(runs)
    assert "chimera - strict_bitnet: +0.020" in text and "entropy" in text
    metrics = quant_report.metrics(runs)
    assert metrics["chimera_minus_strict_bitnet_accuracy"]["n"] == 2
    assert metrics["chimera_zero_ratio"]["value"] == 0.5 and "chimera_gamma" not in metrics
    assert metrics["chimera_parameters_with_gradient"] == {"value": 4, "n": 4}


def test_contrasts_change_one_thing_each() -> None:
    every = cells(MODES, activations=("int8", "as_published"))
    pairs = quant_report.contrasts(every)
    for first, second in pairs:
        changed = sum(getattr(first, name) != getattr(second, name) for name in ("mode", "scale", "activation"))
        assert changed == 1 or second == Cell("fp32_baseline")
    assert len(pairs) == len(set(pairs)) == 12 + 4 + 4 + 6
