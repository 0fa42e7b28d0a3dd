"""How far runs moved the weights, and by what that was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.prion.analysis.runs import values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimera_lib.prion.analysis.runs import RunResult

MEASURES = {  # as the files name it, what it is called
    "final_weight_change": "lengths",
    "final_relative_weight_change": "shares of their norm",
}


def by_group(groups: Mapping[str, Sequence[RunResult]]) -> tuple[str, dict[str, float]]:
    """The mean movement of each group by one measure that all of them have.

    Returns:
        What the measure is called, a value of `MEASURES`, and group to mean; empty where no measure is in all groups.
    """
    for measure, called in MEASURES.items():
        found = {name: values(runs, measure) for name, runs in groups.items()}
        if all(found.values()):
            return called, {name: float(np.mean(one)) for name, one in found.items()}
    return "", {}


def share(one: Sequence[RunResult], other: Sequence[RunResult]) -> float | None:
    """How far runs moved their weights over how far others did; None where the two have no measure in common."""
    _, found = by_group({"one": one, "other": other})
    return of(found["one"], found["other"]) if found else None


def of(one: float, other: float) -> float:
    """One distance over another: 0 where the first is, infinite where only the second is 0."""
    if one == 0:
        return 0.0
    return one / other if other else math.inf


def lesser(one: float, other: float) -> float:
    """The smaller of two distances over the larger; 0 where both are."""
    return of(min(one, other), max(one, other))


def lesser_share(one: Sequence[RunResult], other: Sequence[RunResult]) -> float | None:
    """How far those of two groups that moved less moved over how far the others did; None as of `share`."""
    _, found = by_group({"one": one, "other": other})
    return lesser(found["one"], found["other"]) if found else None
