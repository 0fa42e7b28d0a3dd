"""Several classes at once, on three real libraries: what is found is what was asked for, and fresh processes agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search import lattice, multiway, tie
from chimera_lib.images.search.objective import Assigned, Distinct
from chimera_lib.images.search.protocol import Budget, Outcome, Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from chimera_lib.images.network import Network

THREE = ("openblas", "blis", "mkl")
PAIR = ("openblas", "blis")
REACHED = (5, 8, 9, 11)  # pictures of which three classes tie nearby
NEAR = (0, 1, 3, 5)  # of which two do


@pytest.fixture(scope="module")
def three(small_network: Network) -> Iterator[Oracle]:
    with Oracle(small_network, THREE) as asked:
        yield asked


def confirmed(network: Network, names: tuple[str, ...], images: list[np.ndarray], said: np.ndarray) -> bool:
    """Whether freshly started backends say of the images what they ``said`` (N, backends)."""
    with Oracle(network, names) as fresh:
        return np.array_equal(fresh(np.stack(images)).predictions.T, said)


def test_three_libraries_name_three_classes(small_model, small_network, three, pictures) -> None:
    budget = Budget(evaluations=3000, oracle_calls=300)
    outcomes = [multiway.kway(small_model, pictures[n], three, budget, n) for n in REACHED]
    found = [outcome for outcome in outcomes if outcome.chimera is not None]
    assert len(found) >= 3, [(outcome.evaluations, outcome.oracle_calls) for outcome in outcomes]
    said = np.stack([outcome.predictions for outcome in found])
    assert [len(set(row)) for row in said.tolist()] == [3] * len(found)
    assert confirmed(small_network, THREE, [outcome.chimera for outcome in found], said)
    near = Probe(small_model, None, Budget())
    for number, outcome in zip(REACHED, outcomes, strict=True):
        if outcome.chimera is not None:
            assert set(outcome.predictions.tolist()) == set(tie.nearest_classes(near, pictures[number], 3))
            assert np.array_equal(outcome.candidates[0], outcome.chimera)


def test_targeted_meets_the_class_drawn_before_any_backend_was_asked(
    small_model, small_network, oracle, pictures
) -> None:
    found, met = [], []
    draws = set()
    near = Probe(small_model, None, Budget())
    for number in NEAR:
        seed = 100 + number
        outcome = multiway.targeted(small_model, pictures[number], oracle, Budget(evaluations=1000), seed)
        classes = tie.nearest_classes(near, pictures[number], 2)
        drawn = np.random.default_rng(seed).permutation(classes)
        draws.add(bool(drawn[0] == classes[0]))
        if outcome.chimera is not None:
            assert np.array_equal(outcome.predictions, drawn)
            found.append(outcome.chimera)
            met.append(drawn)
    assert len(found) >= len(NEAR) - 1
    assert draws == {True, False}, "either order is drawn"
    assert confirmed(small_network, PAIR, found, np.stack(met))


def test_stealthy_changes_no_more_than_the_lattice_walk(small_model, small_network, oracle, pictures) -> None:
    def largest(search: Callable[..., Outcome]) -> tuple[list[Outcome], list[int]]:
        outcomes = [search(small_model, pictures[n], oracle, Budget(evaluations=1000), n) for n in NEAR]
        found = [one for one in outcomes if one.chimera is not None]
        assert len(found) >= len(NEAR) - 1
        near = zip(NEAR, outcomes, strict=True)
        return found, [np.abs(o.chimera.astype(int) - pictures[n]).max() for n, o in near if o.chimera is not None]

    found, stealthy = largest(multiway.stealthy)
    _, plain = largest(lattice.search)
    assert np.median(stealthy) <= np.median(plain)
    assert confirmed(small_network, PAIR, [o.chimera for o in found], np.stack([o.predictions for o in found]))


def test_an_oracle_is_needed(small_model: nn.Module, pictures: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no oracle; expected one"):
        multiway.stealthy(small_model, pictures[0], None, Budget(), 0)


@pytest.fixture
def walk(small_model: nn.Module, pictures: np.ndarray) -> tie.Walk:
    probe = Probe(small_model, None, Budget())
    return tie.Walk(probe, pictures[0], [4, 7, 2], tie.Limits(), np.random.default_rng(0))


def test_best_aim_balances_backends_that_lean(walk: tie.Walk) -> None:
    """Three backends that lean each its own way, far beyond chance: with zero mean, each names a class of its own."""
    lean = np.array([[5e-5, 5e-5], [-5e-5, 5e-5], [5e-5, -5e-5]])
    aim, chance = multiway.best_aim(walk, Distinct(3), lean)
    assert chance > 0.95
    assert np.abs(aim + lean.mean(axis=0)).max() < 5 * multiway.SPREAD
    said = np.array([4, 7, 2])
    assert multiway.best_aim(walk, Assigned(said), lean)[1] > 0.95
    assert multiway.best_aim(walk, Assigned(said[[1, 2, 0]]), lean)[1] == 0, "there is no hope against the lean"


def test_best_aim_of_backends_that_do_not_differ_yet(walk: tie.Walk) -> None:
    aim, chance = multiway.best_aim(walk, Distinct(3), np.zeros((3, 2)))
    assert np.abs(aim).max() < 5 * multiway.SPREAD
    assert 0.1 < chance < 0.6
    assert multiway.best_aim(walk, Distinct(2), np.zeros((3, 2)))[1] > chance
    assert multiway.best_aim(walk, Distinct(4), np.zeros((3, 2)))[1] == 0
