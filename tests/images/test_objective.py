"""Goals against their definition in plain Python, and an oracle that is judged by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera_lib.errors import BackendDied
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search.objective import Assigned, Distinct, Judged

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.images.backends.registry import Backend
    from chimera_lib.images.network import Network

BACKENDS = st.integers(2, 5)


@st.composite
def predictions(draw) -> np.ndarray:
    """Classes 0 to 4, int (backends, N)."""
    backends, count = draw(BACKENDS), draw(st.integers(1, 6))
    columns = draw(st.lists(st.lists(st.integers(0, 4), min_size=backends, max_size=backends), min_size=count))
    return np.array(columns).T


@given(said=predictions(), count=st.integers(1, 5))
def test_distinct_counts_the_classes_named(said: np.ndarray, count: int) -> None:
    assert Distinct(count).met(said).tolist() == [len(set(column)) >= count for column in said.T.tolist()]


@given(said=predictions(), data=st.data())
def test_assigned_wants_each_backend_to_name_its_class(said: np.ndarray, data: st.DataObject) -> None:
    columns = said.T.tolist()
    drawn = st.lists(st.integers(0, 4), min_size=len(said), max_size=len(said))
    wanted = data.draw(st.sampled_from(columns) | drawn)
    assert Assigned(wanted).met(said).tolist() == [column == wanted for column in columns]


@given(said=predictions())
def test_two_distinct_classes_are_a_conflict(said: np.ndarray) -> None:
    assert Distinct(2).met(said).tolist() == (said != said[0]).any(axis=0).tolist()


def test_judged_changes_nothing_but_the_conflict(oracle: Oracle, pictures: np.ndarray) -> None:
    plain = oracle(pictures[:4])
    agreed = plain.predictions[0, 0]
    assert not plain.conflict[0]
    judged = Judged(oracle, Assigned([agreed, agreed]))
    verdict = judged(pictures[:4])
    assert judged.names == oracle.names
    assert np.array_equal(verdict.logits, plain.logits)
    assert np.array_equal(verdict.predictions, plain.predictions)
    assert verdict.conflict.tolist() == (plain.predictions == agreed).all(axis=0).tolist()
    assert verdict.conflict[0]
    assert np.array_equal(Judged(oracle, Distinct(2))(pictures[:4]).conflict, plain.conflict)


def test_judged_ends_with_the_loss_of_a_backend(
    scripted: Callable[..., Backend], small_network: Network, pictures: np.ndarray
) -> None:
    dying = scripted("dying", predict="self.count == 3 and os.kill(os.getpid(), signal.SIGKILL)")
    said: list[str] = []
    with Oracle(small_network, ("openblas", "blis", dying), report=said.append) as asked:
        judged = Judged(asked, Distinct(3))
        assert judged(pictures[:2]).conflict.tolist() == [False, False]
        with pytest.raises(BackendDied, match="lost dying; this objective needs each of openblas, blis, dying"):
            judged(pictures[2:3])
    assert len(said) == 1
