"""What a search is to reach: any conflict, or a conflict of a certain kind.

A goal is put between a search and its oracle: ``Judged`` asks the oracle and calls ``conflict`` what meets the goal, so
that every strategy can pursue any goal unchanged. The lattice has walks of its own for them (``walks``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chimera_lib.errors import BackendDied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.images.search.protocol import Asks, Verdict


class Goal(Protocol):
    """Which predictions are wanted."""

    def met(self, predictions: np.ndarray) -> np.ndarray:
        """Bool (N,): whether predictions, int (backends, N), are."""
        ...


@dataclass(frozen=True)
class Distinct:
    """The backends name at least ``count`` different classes."""

    count: int

    def met(self, predictions: np.ndarray) -> np.ndarray:
        """Bool (N,) of predictions, int (backends, N)."""
        return (np.diff(np.sort(predictions, axis=0), axis=0) > 0).sum(axis=0) + 1 >= self.count


class Assigned:
    """Backend i names class ``classes[i]``."""

    def __init__(self, classes: Sequence[int] | np.ndarray) -> None:
        self.classes = np.asarray(classes)

    def met(self, predictions: np.ndarray) -> np.ndarray:
        """Bool (N,) of predictions, int (backends, N)."""
        return (predictions == self.classes[:, None]).all(axis=0)


@dataclass(frozen=True)
class JudgedVerdict:
    """An oracle's verdict, in which ``conflict`` says whether a goal is met."""

    logits: np.ndarray
    predictions: np.ndarray
    conflict: np.ndarray


class Judged:
    """An oracle that takes for a conflict only what meets ``goal``.

    A goal speaks of all backends that there were in the beginning: BackendDied is raised once one of them is lost.
    """

    def __init__(self, oracle: Asks, goal: Goal) -> None:
        self.oracle, self.goal = oracle, goal
        self.expected = oracle.names

    @property
    def names(self) -> tuple[str, ...]:
        """The backends, as the oracle names them."""
        return self.oracle.names

    def __call__(self, images: np.ndarray) -> Verdict:
        """The oracle's verdict on images uint8 (N, H, W, 3), judged by the goal."""
        verdict = self.oracle(images)
        if self.oracle.names != self.expected:
            lost = ", ".join(sorted(set(self.expected) - set(self.oracle.names)))
            raise BackendDied(f"lost {lost}; this objective needs each of {', '.join(self.expected)}: run it again")
        return JudgedVerdict(verdict.logits, verdict.predictions, self.goal.met(verdict.predictions))
