"""The learning rate of each optimizer: the same grid and the same seeds for all, none of which is reported later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import trial
from chimera_lib.ternary.optimizers import LEARNING_RATES, OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimera_lib.ternary.experiments.trial import Task, Trial

    Runner = Callable[[Task, str, float, int], Trial]

__all__ = ["FIRST_TUNING_SEED", "Tuned", "seeds_apart", "tune"]

FIRST_TUNING_SEED = 1_000_000  # reported seeds count from 0


@dataclass(frozen=True)
class Tuned:
    """What tuning chose, and from what.

    Attributes:
        learning_rate: of the least loss; the lesser one of two that are equal; the least where all diverged.
        edge: ``"lowest"`` or ``"highest"`` where that is an end of the grid, so that a better one may lie outside.
        losses: geometric mean of the final losses without noise, by learning rate; infinite where a seed diverged.
        n: tuning seeds.
    """

    optimizer: str
    learning_rate: float
    edge: str
    losses: dict[float, float]
    n: int

    @property
    def diverged(self) -> bool:
        """Whether every learning rate diverged."""
        return not math.isfinite(self.losses[self.learning_rate])


def seeds_apart(reported: int, tuned: int, first: int = 0) -> tuple[list[int], list[int]]:
    """Seeds to report, ``first`` and those after it, and seeds to tune on, which are others.

    Raises:
        ChimeraError: fewer than two to report (an interval needs them), fewer than one to tune on, or so many that
            they meet.
    """
    if not (reported >= 2 and first >= 0 and first + reported <= FIRST_TUNING_SEED):
        raise ChimeraError(
            f"{reported} seeds to report from seed {first}: expected at least 2, as an interval needs two, "
            f"all below {FIRST_TUNING_SEED}"
        )
    if tuned < 1:
        raise ChimeraError(f"{tuned} seeds to tune on: expected at least 1")
    return list(range(first, first + reported)), list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + tuned))


def tune(task: Task, optimizer: str, seeds: Sequence[int], runner: Runner = trial.run) -> Tuned:
    """Run an optimizer at each learning rate of its grid from each seed, and take the best on average.

    Args:
        task: the problem and its steps.
        optimizer: a contender of ``trial.CONTENDERS``.
        seeds: tuning seeds, disjoint from those that will be reported.
        runner: what runs one trial; a suite that keeps its trials has its own.
    """
    if not seeds:
        raise ChimeraError("no seeds to tune on: expected at least one")
    contender = trial.CONTENDERS.get(optimizer)
    grid = OPTIMIZERS[contender.optimizer].learning_rates if contender else LEARNING_RATES  # the runner names it
    losses = {lr: _mean([runner(task, optimizer, lr, seed).loss for seed in seeds]) for lr in grid}
    best = min(losses, key=lambda lr: losses[lr])
    ends = {min(grid): "lowest", max(grid): "highest"}
    return Tuned(optimizer, best, ends.get(best, ""), losses, len(seeds))


def _mean(losses: Sequence[float]) -> float:
    return float(np.exp(np.mean(trial.logarithms(losses))))
