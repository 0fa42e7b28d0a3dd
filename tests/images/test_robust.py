"""The walk for a conflict that carries: two libraries it must be, and what it brings back is a conflict of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search import robust
from chimera_lib.images.search.protocol import Budget

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.images.network import Network

BACKENDS = ("openblas", "blis", "numpy-openblas")


def test_sides_are_libraries() -> None:
    assert robust.sides(BACKENDS).tolist() == [True, False, True]
    assert robust.sides(("blis", "openblas")).tolist() == [True, False]
    with pytest.raises(UnknownName, match="blas"):
        robust.sides(("openblas", "blas"))


@pytest.mark.parametrize(
    ("names", "said"),
    [(("openblas", "numpy-openblas"), "libraries openblas"), (("openblas", "blis", "mkl"), "blis, mkl, openblas")],
)
def test_one_library_or_three_are_refused(
    names: tuple[str, ...], said: str, small_model: nn.Module, small_network: Network, pictures: np.ndarray
) -> None:
    with Oracle(small_network, names) as asked, pytest.raises(ChimeraError, match=r"expects .* exactly two") as refused:
        robust.search(small_model, pictures[0], asked, Budget(), 0)
    assert f"--backends {','.join(names)}: " in str(refused.value)
    assert said in str(refused.value)
    assert asked.calls == 0


def test_brings_back_a_conflict_of_the_two_libraries(
    small_model: nn.Module, small_network: Network, pictures: np.ndarray
) -> None:
    budget = Budget(evaluations=500, oracle_calls=80)
    with Oracle(small_network, BACKENDS) as asked:
        outcomes = [robust.search(small_model, pictures[n], asked, budget, n) for n in (0, 3)]
    found = [outcome for outcome in outcomes if outcome.chimera is not None]
    assert found
    with Oracle(small_network, BACKENDS) as fresh:
        verdict = fresh(np.stack([outcome.chimera for outcome in found]))
    assert verdict.conflict.all()
    assert np.array_equal(verdict.predictions.T, np.stack([outcome.predictions for outcome in found]))
    for outcome in outcomes:
        assert outcome.evaluations <= budget.evaluations and outcome.oracle_calls <= budget.oracle_calls
    for outcome in found:
        assert np.array_equal(outcome.candidates[0], outcome.chimera)


def test_further_apart_carries_further() -> None:
    side = np.array([True, True, False, False])
    chances = [robust.carries(np.array([far, far, -far, -far]), side) for far in (0.0, 3e-7, 1e-6, 3e-6)]
    assert chances[0] == pytest.approx(0.25)
    assert chances == sorted(chances) and chances[-1] > 0.95
    assert robust.carries(np.array([1e-6, 1e-6, -1e-6, -1e-6]), ~side) == chances[2], "either library may be ahead"
    assert robust.carries(np.full(4, 3e-6), side) < 0.05
