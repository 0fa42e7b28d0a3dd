"""Optimizers on one problem against AdamW: each at its own tuned learning rate, or all at one that is given.

Tuned, the question is which optimizer to use. At one shared, untuned learning rate (as the published comparison has
it) a gate that merely raises the learning rate looks like one that helps or harms; the control ``adamw_raised``, AdamW
at 1.029 times its learning rate, shows how much of a difference that alone makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import UnknownName
from chimera_lib.ternary.experiments import trial, tuning
from chimera_lib.ternary.experiments.trial import BASELINE, CONTENDERS, RAISED, logarithms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chimera_lib.ternary.experiments.trial import Task, Trial
    from chimera_lib.ternary.experiments.tuning import Runner, Tuned

__all__ = ["Row", "compare", "contenders", "measure", "with_holm"]


@dataclass(frozen=True)
class Row:
    """One optimizer on one problem, over the reported seeds.

    Losses of different seeds differ by factors, so that all averages are of the logarithm of the loss: ``loss`` is a
    geometric mean, ``difference`` a ratio of two, less 1.

    Attributes:
        learning_rate: what its steps used.
        tuned: how it was found; None where it was given.
        losses: final losses without noise, one a seed; infinite where one diverged.
        log_ratios: ln(loss / AdamW's loss from the same seed); empty for AdamW, or where a trial of the two diverged.
        p: of the paired t test that the mean of these is 0; None where there are none.
        p_holm: the same, corrected for the number of tests in the table.
        step_ms: median of the optimizer's step, without warm-up steps, over the seeds.
        state_bytes, psi_bytes: of the optimizer's whole state, and of ψ in it.
        elements: of the parameters.
    """

    task: Task
    optimizer: str
    learning_rate: float
    tuned: Tuned | None
    losses: tuple[float, ...]
    log_ratios: tuple[float, ...]
    p: float | None
    p_holm: float | None
    step_ms: float
    state_bytes: int
    psi_bytes: int
    elements: int

    @property
    def n(self) -> int:
        """Reported seeds."""
        return len(self.losses)

    @property
    def diverged(self) -> int:
        """Seeds that diverged."""
        return sum(not math.isfinite(loss) for loss in self.losses)

    @property
    def loss(self) -> float:
        """Geometric mean of the losses, infinite where a seed diverged."""
        return float(np.exp(np.mean(logarithms(self.losses))))

    @property
    def loss_ci(self) -> stats.Interval | None:
        """Its 95 % interval: Student's, of the logarithms."""
        return None if self.diverged else stats.Interval(*np.exp(stats.student(logarithms(self.losses))).tolist())

    @property
    def difference(self) -> float | None:
        """Loss over AdamW's, less 1: -0.05 is a loss 5 % lower than AdamW's. None where there is no ratio."""
        return math.expm1(float(np.mean(self.log_ratios))) if self.log_ratios else None

    @property
    def difference_ci(self) -> stats.Interval | None:
        """Its 95 % interval: Student's, of the paired log ratios."""
        return _ratio(stats.student(self.log_ratios)) if self.log_ratios else None

    @property
    def bootstrap_ci(self) -> stats.Interval | None:
        """The bootstrap's percentile interval of the same, which assumes no normal distribution."""
        return _ratio(stats.bootstrap(self.log_ratios, statistic="mean")) if self.log_ratios else None

    @property
    def edge(self) -> str:
        """``"lowest"`` or ``"highest"`` where the tuned learning rate is an end of the grid."""
        return self.tuned.edge if self.tuned else ""


def _ratio(interval: stats.Interval) -> stats.Interval:
    return stats.Interval(*np.expm1(interval).tolist())


def contenders(names: Iterable[str] | None = None) -> list[str]:
    """The names to compare, AdamW first whether named or not; all where None.

    Raises:
        UnknownName: a name that is not in ``trial.CONTENDERS``.
    """
    wanted = list(CONTENDERS) if names is None else list(names)
    for name in wanted:
        if name not in CONTENDERS:
            raise UnknownName("optimizer", name, CONTENDERS)
    return list(dict.fromkeys([BASELINE, *wanted]))


def compare(
    task: Task,
    optimizers: Iterable[str] | None = None,
    *,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (),
    learning_rate: float | None = None,
    runner: Runner = trial.run,
) -> list[Row]:
    """Compare optimizers on a task; the same as ``measure``, with p values corrected over these rows."""
    rows = measure(task, optimizers, seeds=seeds, tuning_seeds=tuning_seeds, learning_rate=learning_rate, runner=runner)
    return with_holm(rows)


def measure(
    task: Task,
    optimizers: Iterable[str] | None = None,
    *,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (),
    learning_rate: float | None = None,
    runner: Runner = trial.run,
) -> list[Row]:
    """Run optimizers on a task, and pair them with AdamW.

    Args:
        task: the problem and its steps.
        optimizers: names of ``trial.CONTENDERS``; all where None. AdamW is always among them.
        seeds: at least two reported seeds, the same for all.
        tuning_seeds: other seeds, for the learning rates; at least one unless ``learning_rate`` is given.
        learning_rate: for all of them, instead of tuning.
        runner: what runs one trial.

    Returns:
        A row per optimizer, AdamW's first; p values are of each test by itself.
    """
    rows: list[Row] = []
    for name in contenders(optimizers):
        if learning_rate is not None:
            tuned, lr = None, learning_rate
        elif name == RAISED:  # a control of AdamW, at AdamW's own learning rate and a factor
            tuned, lr = rows[0].tuned, rows[0].learning_rate
        else:
            tuned = tuning.tune(task, name, tuning_seeds, runner)
            lr = tuned.learning_rate
        trials = [runner(task, name, lr, seed) for seed in seeds]
        rows.append(_row(task, name, lr, tuned, trials, rows[0] if rows else None))
    return rows


def _row(task: Task, name: str, lr: float, tuned: Tuned | None, trials: Sequence[Trial], first: Row | None) -> Row:
    losses = tuple(one.loss for one in trials)
    ratios: tuple[float, ...] = ()
    if first is not None and np.isfinite([*losses, *first.losses]).all():
        ratios = tuple((logarithms(losses) - logarithms(first.losses)).tolist())
    times = [one.step_ms for one in trials if math.isfinite(one.step_ms)]
    return Row(
        task=task,
        optimizer=name,
        learning_rate=lr * CONTENDERS[name].factor,
        tuned=tuned,
        losses=losses,
        log_ratios=ratios,
        p=_paired_t(ratios) if ratios else None,
        p_holm=None,
        step_ms=float(np.median(times)) if times else math.nan,
        state_bytes=trials[0].state_bytes,
        psi_bytes=trials[0].psi_bytes,
        elements=trials[0].elements,
    )


def _paired_t(ratios: Sequence[float]) -> float:
    from scipy.stats import ttest_1samp

    if np.ptp(ratios) == 0:  # no spread: certain of any difference there is, and scipy would warn
        return 1.0 if ratios[0] == 0 else 0.0
    return float(ttest_1samp(ratios, 0.0).pvalue)


def with_holm(rows: Sequence[Row]) -> list[Row]:
    """The rows with their p values corrected, by Holm's method, for all the tests among them."""
    tested = [row.p for row in rows if row.p is not None]
    corrected = iter(stats.holm(tested)) if tested else iter(())
    return [replace(row, p_holm=None if row.p is None else float(next(corrected))) for row in rows]
