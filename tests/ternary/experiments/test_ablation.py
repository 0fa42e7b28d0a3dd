"""The ablation crosses its factors under the same seeds, tunes on held-out images, and goes on after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import ablation, cifar_batches
from chimera_lib.ternary.experiments.recipe import Recipe
from chimera_lib.ternary.optimizers import LEARNING_RATES

if TYPE_CHECKING:
    from pathlib import Path

BASE = Recipe(batch_size=16, max_batches=1, eval_batch_size=32, eval_max_batches=1)
SMALL = ablation.Design(
    BASE, optimizers=("adamw", "chimera21"), modes=("fp32_baseline", "chimera"), seeds=(0, 1), tuning_batches=1
)


def data() -> cifar_batches.Splits:
    return cifar_batches.synthetic(80, 32)


def other_data() -> cifar_batches.Splits:
    return cifar_batches.synthetic(80, 32, seed=1)


def deadly() -> cifar_batches.Splits:
    """Data whose reading kills a process that was started for it, and no other."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return data()


def test_every_cell_has_every_seed_and_the_rate_of_its_optimizer_and_mode(tmp_path: Path) -> None:
    said: list[Any] = []
    rows = ablation.run(SMALL, data, tmp_path, report=said.append)
    cells = [(r["optimizer"], r["mode"], r["activation"], r["seed"]) for r in rows]
    assert len(set(cells)) == len(cells) == 2 * 2 * 2 * 2
    assert [r["seed"] for r in rows] == [0] * 8 + [1] * 8
    rates = {(r["optimizer"], r["mode"], r["learning_rate"]) for r in rows}
    assert len(rates) == 4  # one rate for each optimizer and mode
    assert {r["data"] for r in rows} == {"synthetic"}
    tuned = [json.loads(line) for line in (tmp_path / "tuning.jsonl").read_text().splitlines()[1:]]
    assert {r["data"] for r in tuned} == {"synthetic-validation"} and {r["seed"] for r in tuned} == {1000}
    assert {r["n"] for r in tuned if not r["diverged"]} == {16}  # a fifth of the training images
    assert sum(r["chosen"] for r in tuned) == 4


def test_an_interrupted_ablation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ablation.run(SMALL, data, tmp_path / "whole")
    real, calls = ablation.measure, [0]

    def cut(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 20:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "measure", cut)
        with pytest.raises(KeyboardInterrupt):
            ablation.run(SMALL, data, tmp_path / "cut")
    kept = (tmp_path / "cut" / "tuning.jsonl").read_text()
    assert ablation.run(SMALL, data, tmp_path / "cut") == whole
    assert (tmp_path / "cut" / "tuning.jsonl").read_text().startswith(kept)
    ablation.run(replace(SMALL, seeds=(0, 1, 2)), data, tmp_path / "cut")  # more seeds go into the same folder
    with pytest.raises(ChimeraError, match="data_digest"):  # rows of other images are not taken for these
        ablation.run(SMALL, other_data, tmp_path / "cut")
    with pytest.raises(ChimeraError, match="max_batches 1, now 2"):
        ablation.run(replace(SMALL, base=replace(BASE, max_batches=2)), data, tmp_path / "cut")


def test_tuning_walks_to_the_better_neighbour_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    best = LEARNING_RATES[2]
    tried: list[float] = []

    def valley(recipe: Recipe, splits: Any, device: str) -> dict[str, Any]:
        tried.append(recipe.learning_rate)
        far = abs(LEARNING_RATES.index(recipe.learning_rate) - 2)
        return {"learning_rate": recipe.learning_rate, "loss": float(far), "diverged": recipe.learning_rate > 0.02}

    monkeypatch.setattr(ablation, "measure", valley)
    rows = ablation.tune(SMALL, data(), "adamw", "chimera")
    assert [row["learning_rate"] for row in rows if row["chosen"]] == [best]
    assert sorted(tried) == list(LEARNING_RATES[1:6])  # from the middle, no further than the neighbours of the best


def test_a_run_that_diverges_is_a_row(tmp_path: Path) -> None:
    design = replace(SMALL, optimizers=("sgd_momentum",), modes=("fp32_baseline",))
    design = replace(design, rates={("sgd_momentum", "fp32_baseline"): 1e9})
    rows = ablation.run(replace(design, base=replace(BASE, max_batches=4)), data, tmp_path)
    assert all(row["diverged"] and row["accuracy"] is None for row in rows)
    assert not (tmp_path / "tuning.jsonl").exists()


def test_a_killed_process_is_said_and_costs_nothing_that_was_done(tmp_path: Path) -> None:
    given = replace(SMALL, rates={("adamw", "chimera"): 0.01}, optimizers=("adamw",), modes=("chimera",))
    one = ablation.run(replace(given, seeds=(0,)), data, tmp_path)
    with pytest.raises(ChimeraError, match="a training process was killed"):
        ablation.run(given, deadly, tmp_path, jobs=2)
    assert ablation.run(given, data, tmp_path)[:2] == one


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    given = replace(SMALL, rates={("adamw", "chimera"): 0.01}, optimizers=("adamw",), modes=("chimera",))
    one = ablation.run(given, data, tmp_path / "one")
    two = ablation.run(given, data, tmp_path / "two", jobs=2, log=(tmp_path / "log.jsonl", "shared"))
    assert one == two
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(records) == 4 * 5 and {record["run_id"] for record in records} == {"shared"}
