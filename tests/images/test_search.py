"""Every strategy, held to the one protocol, on real backends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from chimera_lib.errors import UnknownName
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search import OBJECTIVES, STRATEGIES, boundary, lattice, strategy
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Probe, as_input, top_two

TIGHT = Budget(evaluations=150, oracle_calls=12)
ROOMY = Budget(evaluations=320, oracle_calls=60)  # walks to a tie measure some 200 steps before they first ask
EVERY = dict.fromkeys(STRATEGIES, TIGHT) | dict.fromkeys(OBJECTIVES, ROOMY)
DRAWLESS = {"boundary_as_published", "boundary_straight_through"}  # nothing in them is random


@pytest.mark.parametrize(("name", "budget"), EVERY.items(), ids=EVERY)
def test_strategy_keeps_the_protocol(name, budget, small_model, oracle, pictures):
    before = oracle.calls
    outcome = strategy(name)(small_model, pictures[0], oracle, budget, 5)
    assert 0 < outcome.evaluations <= budget.evaluations
    assert 0 < outcome.oracle_calls <= budget.oracle_calls
    assert oracle.calls - before == outcome.oracle_calls
    assert outcome.candidates
    for image in outcome.candidates:
        assert image.dtype == np.uint8
        assert image.shape == pictures[0].shape
    if outcome.chimera is not None:
        assert np.array_equal(outcome.candidates[0], outcome.chimera)


@pytest.mark.parametrize(("name", "budget"), EVERY.items(), ids=EVERY)
def test_same_seed_same_result(name, budget, small_model, oracle, pictures):
    one, two, other = (strategy(name)(small_model, pictures[1], oracle, budget, seed) for seed in (9, 9, 10))
    assert one.evaluations == two.evaluations
    assert one.oracle_calls == two.oracle_calls
    assert one.path == two.path
    assert same(one.candidates, two.candidates)
    assert same(one.candidates, other.candidates) == (name in DRAWLESS)


def same(images, others) -> bool:
    return len(images) == len(others) and all(map(np.array_equal, images, others))


def test_lattice_finds_chimeras_that_fresh_processes_confirm(small_model, small_network, oracle, pictures):
    outcomes = [lattice.search(small_model, image, oracle, Budget(), seed) for seed, image in enumerate(pictures)]
    found = [outcome.chimera for outcome in outcomes if outcome.chimera is not None]
    assert len(found) >= 11
    assert np.median([outcome.evaluations for outcome in outcomes]) <= 600
    near = zip(outcomes, pictures, strict=True)
    far = [np.abs(one.chimera.astype(int) - image).max() for one, image in near if one.chimera is not None]
    assert np.median(far) <= 2, "levels of 255: a lattice walk stays beside its start"
    with Oracle(small_network, ("openblas", "blis")) as fresh:
        assert fresh(np.stack(found)).conflict.all()


def test_published_boundary_search_never_moves(small_model, oracle, pictures):
    outcome = boundary.as_published(small_model, pictures[2], oracle, Budget(), 0)
    assert np.array_equal(outcome.candidates[0], pictures[2])
    assert outcome.evaluations == 3  # one gradient, exactly zero: every further step would repeat it


def test_straight_through_reaches_the_boundary(small_model, oracle, pictures):
    budget = Budget(evaluations=900, oracle_calls=5)
    outcome = boundary.straight_through(small_model, pictures[2], oracle, budget, 0)
    assert min(outcome.path) < 0.02 * outcome.path[0]
    assert not np.array_equal(outcome.candidates[0], pictures[2])


@pytest.mark.parametrize("steps", [14, lattice.STEPS])
@pytest.mark.parametrize("seed", range(5))
def test_cancelling_sets_are_the_best_there_are(steps, seed):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 1e-3, steps)
    gap = rng.normal(0, 1e-3)
    sets = lattice.cancelling_sets(effects, gap, rng)
    every = np.array(list(itertools.combinations(range(steps), 4)))
    residuals = np.sort(np.abs(effects[every].sum(axis=1) + gap))
    got = np.abs(effects[sets].sum(axis=1) + gap)
    assert len(sets) >= min(lattice.TRIES, len(every))
    assert len({tuple(sorted(row)) for row in sets}) == len(sets), "each set once"
    assert all(len(set(row)) == 4 for row in sets)
    assert got.min() == pytest.approx(residuals[0], abs=1e-15)
    assert got.max() <= residuals[60]


def test_cancelling_sets_of_four_steps_are_one():
    sets = lattice.cancelling_sets(np.array([1.0, 2.0, 4.0, 8.0]), 0.5, np.random.default_rng(0))
    assert sets.tolist() == [[0, 1, 2, 3]]


def test_steps_stay_on_the_lattice():
    rng = np.random.default_rng(1)
    point = rng.choice(np.array([0, 255, 7], dtype=np.uint8), size=(8, 8, 3))
    where, step = lattice.random_steps(point, point, rng)
    assert len(set(where)) == len(where) == lattice.STEPS
    moved = lattice.apply(point, where[:, None], step[:, None])
    change = moved.astype(int) - point
    assert (np.abs(change).sum(axis=(1, 2, 3)) == 1).all()


def test_steps_go_no_further_from_the_start():
    rng = np.random.default_rng(2)
    start = rng.integers(2, 254, (8, 8, 3)).astype(np.uint8)
    point = (start + rng.integers(-2, 3, start.shape)).astype(np.uint8)
    for _ in range(20):
        where, step = lattice.random_steps(point, start, rng)
        moved = lattice.apply(point, where[None], step[None])[0]
        assert np.abs(moved.astype(int) - start).max() == 2


def test_probe_books_before_it_works(small_model, pictures):
    probe = Probe(small_model, None, Budget(evaluations=4, oracle_calls=1))
    probe.logits(pictures[:3])
    with pytest.raises(BudgetSpent):
        probe.logits(pictures[:2])
    assert probe.outcome.evaluations == 3


def test_gap_gradient_predicts_steps(small_model, pictures):
    probe = Probe(small_model, None, Budget())
    logits, (first, second), effect = probe.gap_gradient(pictures[4])
    assert (first, second) == top_two(logits)
    where, step = lattice.random_steps(pictures[4], pictures[4], np.random.default_rng(2))
    after = probe.logits(lattice.apply(pictures[4], where[:, None], step[:, None]))
    change = (after[:, first] - after[:, second]) - (logits[first] - logits[second])
    predicted = step * effect.ravel()[where]
    assert np.corrcoef(change, predicted)[0, 1] > 0.9
    assert np.abs(change).sum() == pytest.approx(np.abs(predicted).sum(), rel=0.3)


@pytest.mark.parametrize("bad", [np.zeros((1, 32, 32), np.uint8), np.zeros((1, 32, 32, 3), np.float32)])
def test_wrong_images_are_named(bad):
    with pytest.raises(ValueError, match="expected uint8"):
        as_input(bad)


def test_training_mode_and_unknown_names_are_refused(small_model):
    with pytest.raises(ValueError, match="eval"):
        Probe(torch.nn.Sequential(small_model).train(), None, Budget())
    small_model.eval()
    with pytest.raises(UnknownName, match="lattice"):
        strategy("latice")
    with pytest.raises(ValueError, match="evaluations=0"):
        Budget(evaluations=0)
