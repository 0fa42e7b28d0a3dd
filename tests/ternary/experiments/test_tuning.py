"""Tuning: the same grid and seeds for all, other seeds than those reported, and edges said."""

from __future__ import annotations

import math

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import tuning
from chimera_lib.ternary.experiments.trial import CONTENDERS, Task, Trial
from chimera_lib.ternary.optimizers import LEARNING_RATES

TASK = Task("regression", steps=5)


def runner_of(losses: dict[float, float]) -> tuning.Runner:
    """A runner whose loss is a function of the learning rate, with a factor by seed that averages out."""

    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        return Trial(losses.get(lr, 5.0) * (2.0 if seed % 2 else 0.5), 1.0, 0, 0, 97)

    return runner


@pytest.mark.parametrize(("best", "edge"), [(1e-4, "lowest"), (1e-2, ""), (1.0, "highest")])
def test_the_best_rate_is_taken_and_an_edge_is_said(best: float, edge: str) -> None:
    found = tuning.tune(TASK, "adamw", [10, 11], runner_of({best: 0.1}))
    assert (found.learning_rate, found.edge, found.n) == (best, edge, 2)
    assert found.losses[best] == pytest.approx(0.1) and set(found.losses) == set(LEARNING_RATES)


def test_one_seed_that_diverges_spoils_a_rate() -> None:
    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        return Trial(math.inf if lr == 0.01 and seed == 1 else 0.1 if lr == 0.01 else 1.0 + lr, 1.0, 0, 0, 97)

    found = tuning.tune(TASK, "lion", [0, 1, 2], runner)
    assert found.losses[0.01] == math.inf and found.learning_rate == 1e-4 and not found.diverged


def test_divergence_everywhere_is_a_result() -> None:
    found = tuning.tune(TASK, "grams", [0], runner_of(dict.fromkeys(LEARNING_RATES, math.inf)))
    assert found.diverged and found.learning_rate == min(LEARNING_RATES)


def test_of_equal_rates_the_lesser_is_taken() -> None:
    assert tuning.tune(TASK, "adamw", [0], runner_of({0.003: 0.1, 0.1: 0.1})).learning_rate == 0.003


def test_all_contenders_are_tuned_by_the_same_grid_and_seeds() -> None:
    asked: dict[str, list[tuple[float, int]]] = {}

    def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
        asked.setdefault(name, []).append((lr, seed))
        return Trial(1.0, 1.0, 0, 0, 97)

    for name in CONTENDERS:
        tuning.tune(TASK, name, [7, 8], runner)
    assert len({tuple(pairs) for pairs in asked.values()}) == 1
    assert asked["adamw"] == [(lr, seed) for lr in LEARNING_RATES for seed in (7, 8)]


def test_a_real_problem_is_tuned_to_the_inside_of_the_grid() -> None:
    found = tuning.tune(Task("noisy_quadratic", steps=60), "adamw", [tuning.FIRST_TUNING_SEED])
    assert found.edge == "" and found.losses[found.learning_rate] < found.losses[1e-4] / 2


def test_seeds_never_meet() -> None:
    reported, tuned = tuning.seeds_apart(20, 5)
    assert reported == list(range(20)) and len(tuned) == 5 and not set(reported) & set(tuned)
    assert tuning.seeds_apart(2, 1, 100)[0] == [100, 101]
    for words, said in (
        ((1, 5), "1 seeds to report"),
        ((2, 0), "0 seeds to tune"),
        ((10**7, 1), "10000000"),
        ((2, 1, 999_999), "from seed 999999"),
    ):
        with pytest.raises(ChimeraError, match=said):
            tuning.seeds_apart(*words)
    with pytest.raises(ChimeraError, match="no seeds"):
        tuning.tune(TASK, "adamw", [])
